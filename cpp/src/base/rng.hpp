// Random numbers that are the same on every platform, compiler and instruction set.
//
// Integer arithmetic decides everything; where floating point enters, each operation is exact or rounded once, so
// that contraction to fused multiply-add cannot change a bit. The one exception is normal(), which takes a logarithm
// from the C library.
//
// Two kinds of generator:
//   bits_at(seed, counter)  any element of a sequence without the ones before it: dropout masks, which then do not
//                           depend on how threads share the work
//   Rng                     one long sequence: shuffles and initial weights
#pragma once

#include "base/namespace.hpp"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>

LSTMCORE_BEGIN_NAMESPACE

namespace rng_detail {

constexpr std::uint64_t golden_gamma = 0x9E3779B97F4A7C15u;  // 2⁶⁴ divided by the golden ratio, odd

/// A bijection of 64 bits in which every input bit reaches every output bit (splitmix64's finaliser, variant 13 of
/// Stafford; Steele, Lea & Flood 2014).
constexpr std::uint64_t scramble(std::uint64_t z) noexcept {
  z = (z ^ (z >> 30U)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27U)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31U);
}

constexpr std::uint64_t rotate_left(std::uint64_t x, unsigned k) noexcept { return (x << k) | (x >> (64U - k)); }

}  // namespace rng_detail

/// Element `counter` of the sequence that `seed` names: 64 random bits (splitmix64, Steele, Lea & Flood 2014).
constexpr std::uint64_t bits_at(std::uint64_t seed, std::uint64_t counter) noexcept {
  return rng_detail::scramble(seed + rng_detail::golden_gamma * (counter + 1));
}

/// Seed of stream number `stream` under `seed`. Nests: mix(mix(seed, epoch), batch). The inner scramble keeps
/// neighbouring seeds and neighbouring streams from meeting.
constexpr std::uint64_t mix(std::uint64_t seed, std::uint64_t stream) noexcept {
  return bits_at(rng_detail::scramble(seed ^ 0xD1B54A32D192ED03u), stream);
}

/// 64 random bits as a double in [0, 1), a multiple of 2⁻⁵³.
constexpr double unit_interval(std::uint64_t bits) noexcept { return static_cast<double>(bits >> 11U) * 0x1p-53; }

/// xoshiro256** (Blackman & Vigna 2021), period 2²⁵⁶ − 1.
class Rng {
 public:
  explicit Rng(std::uint64_t seed) noexcept {
    // splitmix64 never yields four zeros in a row, the one state that xoshiro cannot leave.
    for (std::uint64_t k = 0; k < 4; ++k) state_[k] = bits_at(seed, k);
  }

  /// 64 random bits.
  std::uint64_t bits() noexcept {
    const std::uint64_t result = rng_detail::rotate_left(state_[1] * 5, 7U) * 9;
    const std::uint64_t shifted = state_[1] << 17U;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= shifted;
    state_[3] = rng_detail::rotate_left(state_[3], 45U);
    return result;
  }

  /// In [0, 1).
  double uniform() noexcept { return unit_interval(bits()); }

  /// In [−bound, bound). 2u − 1 is exact for the u of unit_interval, so the product is the only rounding.
  double symmetric(double bound) noexcept { return (2.0 * uniform() - 1.0) * bound; }

  /// One of 0 … n − 1, each equally likely; n ≥ 1.
  std::uint64_t below(std::uint64_t n) noexcept {
    // The smallest 2⁶⁴ mod n values are refused, so that what is left is a whole number of times n.
    const std::uint64_t refused = (0 - n) % n;
    std::uint64_t x = bits();
    while (x < refused) x = bits();
    return x % n;
  }

  /// Standard normal (polar method, Marsaglia & Bray 1964). The two coordinates are integers of 26 bits and sign:
  /// their squared distance from the origin is exact.
  double normal() noexcept {
    if (has_spare_) {
      has_spare_ = false;
      return spare_;
    }
    constexpr std::int64_t half = 67108864;  // 2²⁶
    std::int64_t x = 0, y = 0, square = 0;
    do {
      const std::uint64_t pair = bits();
      x = static_cast<std::int64_t>(pair >> 37U) - half;
      y = static_cast<std::int64_t>((pair >> 10U) & 0x7FFFFFFU) - half;
      square = x * x + y * y;
    } while (square == 0 || square >= half * half);
    const auto s = static_cast<double>(square);
    const double factor = std::sqrt(-2.0 * std::log(s * 0x1p-52) / s);
    spare_ = static_cast<double>(y) * factor;
    has_spare_ = true;
    return static_cast<double>(x) * factor;
  }

  /// Every order of the n elements equally likely (Fisher & Yates; Durstenfeld 1964).
  template <class Element>
  void shuffle(Element* elements, std::size_t n) noexcept {
    for (std::size_t i = n; i > 1; --i) std::swap(elements[i - 1], elements[below(i)]);
  }

 private:
  std::uint64_t state_[4] = {};
  double spare_ = 0.0;
  bool has_spare_ = false;
};

LSTMCORE_END_NAMESPACE
