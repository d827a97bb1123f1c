// Random factors of the regularisers: a mask depends on the seed, what it is for, the row and the unit, and on nothing
// else; in particular not on padding, which differs between engines, nor on threads.
#pragma once

#include "base/rng.hpp"
#include "base/threads.hpp"
#include "kernels/pointwise.hpp"

LSTMCORE_BEGIN_NAMESPACE

/// What a mask is for, mixed into the seed with the slot it belongs to.
enum class MaskUse : std::uint64_t { dropout = 0, keep = 1, hold_h = 2, hold_state = 3, input = 4, fed = 5 };

inline std::uint64_t mask_stream(std::uint64_t seed, MaskUse use, std::int64_t slot) noexcept {
  const std::uint64_t stream =
      use == MaskUse::dropout ? seed : mix(seed, 0x6d61736b00000000U + static_cast<std::uint64_t>(use));
  return mix(stream, static_cast<std::uint64_t>(slot));
}

/// Factors of one group of `count` units of row `row`, which has `groups` of them: `dropped` with probability p, else
/// `kept`. 32 random bits each.
template <class T>
void random_factors(std::uint64_t stream, double p, T dropped, T kept, std::int64_t row, std::int64_t groups,
                    std::int64_t group, std::int64_t count, T* factors) noexcept {
  const auto threshold = static_cast<std::uint64_t>(p * 4294967296.0);
  const std::int64_t pairs = (count + 1) / 2;
  const std::int64_t first = (row * groups + group) * pairs;
  for (std::int64_t pair = 0; pair < pairs; ++pair) {
    const std::uint64_t bits = mix(stream, static_cast<std::uint64_t>(first + pair));
    factors[2 * pair] = (bits & 0xffffffffU) < threshold ? dropped : kept;
    if (2 * pair + 1 < count) factors[2 * pair + 1] = (bits >> 32U) < threshold ? dropped : kept;
  }
}

/// A whole matrix of one group, zeros in the padding: this member's share of `rows` rows.
template <class T>
void fill_mask(std::uint64_t stream, double p, T dropped, T kept, std::int64_t rows, std::int64_t count, Rows<T> mask,
               Member member) noexcept {
  const Member::Range range = member.share(rows);
  for (std::int64_t row = range.begin; row < range.end; ++row) {
    random_factors(stream, p, dropped, kept, row, 1, 0, count, mask[row]);
    std::fill(mask[row] + count, mask[row] + padded<T>(count), T{0});
  }
}

LSTMCORE_END_NAMESPACE
