// Packed weights of a buffer that its owner may write between any two calls: when they have to be packed again.
#pragma once

#include "base/namespace.hpp"

#include <atomic>
#include <cstdint>
#include <cstring>
#include <vector>

LSTMCORE_BEGIN_NAMESPACE

/// Whether somebody may be writing a buffer: if nobody is, a number that stands for what it holds.
class Settled {
 public:
  void open() noexcept { number_.store(0, std::memory_order_release); }
  void settle() noexcept {
    number_.store(last_.fetch_add(1, std::memory_order_relaxed) + 1, std::memory_order_release);
  }
  /// 0: open. To be read before the buffer is: whoever opens it in between then settles on another number.
  std::uint64_t number() const noexcept { return number_.load(std::memory_order_acquire); }

 private:
  std::atomic<std::uint64_t> number_{0};
  std::atomic<std::uint64_t> last_{0};
};

/// What packed weights were made from.
template <class T>
class PackedFrom {
 public:
  /// Whether it was these parameters (always the same number of them), which Settled::number() stands for: a look at
  /// all of them costs a small layer's step more than its arithmetic. If it was not, pack copy() and call packed(). A
  /// copy, since another thread may write on: what is compared with later has to be what was packed.
  bool same(const T* parameters, std::int64_t count, std::uint64_t number) {
    if (packed_ && number != 0 && number == number_) return true;
    const auto size = static_cast<std::size_t>(count);
    packed_ = packed_ && std::memcmp(copy_.data(), parameters, size * sizeof(T)) == 0;
    if (!packed_) copy_.assign(parameters, parameters + count);
    number_ = number;
    return packed_;
  }

  const T* copy() const noexcept { return copy_.data(); }
  /// Only once they are: what comes in between may throw.
  void packed() noexcept { packed_ = true; }

 private:
  std::vector<T> copy_;
  std::uint64_t number_ = 0;
  bool packed_ = false;
};

LSTMCORE_END_NAMESPACE
