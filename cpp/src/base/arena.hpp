// One growing block of memory for everything a pass over a batch needs: taken piece by piece, given back all at once.
// After the first batch of a size no pass allocates.
#pragma once

#include "base/namespace.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

LSTMCORE_BEGIN_NAMESPACE

class Arena {
 public:
  static constexpr std::size_t kAlignment = 64;
  static constexpr std::size_t kHugePage = std::size_t{1} << 21;

  /// Uninitialised room for `count` elements, aligned to a cache line; valid until reset().
  template <class T>
  T* take(std::int64_t count) {
    const std::size_t bytes = round_up(static_cast<std::size_t>(count) * sizeof(T));
    if (blocks_.empty() || blocks_.back().used + bytes > blocks_.back().size) add_block(bytes);
    Block& block = blocks_.back();
    T* p = reinterpret_cast<T*>(block.data.get() + block.used);
    block.used += bytes;
    return p;
  }

  /// Forgets all pieces. Several blocks become one, so that the next pass of the same size finds a single block.
  void reset() {
    if (blocks_.size() > 1) {
      const std::size_t total = capacity();
      blocks_.clear();
      add_block(total);
    }
    if (!blocks_.empty()) blocks_.back().used = 0;
  }

  std::size_t capacity() const noexcept {
    std::size_t total = 0;
    for (const Block& block : blocks_) total += block.size;
    return total;
  }

 private:
  struct Free {
    std::size_t alignment = kAlignment;
    void operator()(std::byte* p) const noexcept { ::operator delete(p, std::align_val_t(alignment)); }
  };
  struct Block {
    std::unique_ptr<std::byte, Free> data;
    std::size_t size = 0;
    std::size_t used = 0;
  };

  // 64 bytes of slack after each piece keep neighbours off one cache line pair and let packs read past a row's end.
  static std::size_t round_up(std::size_t bytes) noexcept {
    return (bytes + 2 * kAlignment - 1) / kAlignment * kAlignment;
  }

  void add_block(std::size_t at_least) {
    std::size_t size = std::size_t{1} << 14;
    if (!blocks_.empty()) size = blocks_.back().size;  // doubles the total
    if (size < at_least) size = at_least;
    const std::size_t alignment = size >= 4 * kHugePage ? kHugePage : kAlignment;
    auto* const data = static_cast<std::byte*>(::operator new(size, std::align_val_t(alignment)));
    blocks_.push_back({std::unique_ptr<std::byte, Free>(data, Free{alignment}), size, 0});
#if defined(__linux__)
    // Transforms of tiles write 36 streams: huge pages save misses of the address cache.
    if (alignment == kHugePage) madvise(data, size / kHugePage * kHugePage, MADV_HUGEPAGE);
#endif
  }

  std::vector<Block> blocks_;
};

LSTMCORE_END_NAMESPACE
