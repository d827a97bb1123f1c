// 64-bit FNV-1a (Fowler, Noll & Vo 1991; IETF draft-eastlake-fnv).
//
// Against accidents (a failing disk, a broken transfer), not against forgery: every step is a bijection of the state,
// so that any change confined to one byte is certain to be seen. It is hashed byte by byte; a word at a time would be
// faster, but flips of the sign bits of two doubles would then cancel.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace lstmcore::file {

class Fnv1a {
 public:
  void add(const void* data, std::size_t bytes) noexcept {
    const auto* p = static_cast<const unsigned char*>(data);
    std::uint64_t hash = hash_;
    for (std::size_t i = 0; i < bytes; ++i) hash = (hash ^ p[i]) * 0x100000001b3u;
    hash_ = hash;
  }

  /// Eight bytes, least significant first.
  void add(std::uint64_t value) noexcept {
    for (int shift = 0; shift < 64; shift += 8) {
      const auto byte = static_cast<unsigned char>(value >> shift);
      add(&byte, 1);
    }
  }

  /// Length, then bytes, so that neighbouring texts cannot trade characters.
  void add(std::string_view text) noexcept {
    add(static_cast<std::uint64_t>(text.size()));
    add(text.data(), text.size());
  }

  std::uint64_t value() const noexcept { return hash_; }

 private:
  std::uint64_t hash_ = 0xcbf29ce484222325u;
};

}  // namespace lstmcore::file
