// Products of operands in bf16 (the upper half of a float32: 8 significant bits, the same range), sums in float32.
//
// Both operands are rounded to nearest, half to even, before they meet. A product of two bf16 numbers is exact in
// float32, so that only the order of the sums could make a difference, and that is the one of kernels/tile.hpp: k after
// k in one chain. The bits are therefore those of the float32 kernels run on rounded operands, and that is how they are
// computed: activations and gradients stay float32 rows whose lower halves are zero, and weights are kept in half the
// memory and widened in registers or in L1. What is gained is memory traffic, which is all there is to one sequence.
// kernels/bf16_dot.hpp has the same products for processors with an instruction for them.
//
// A panel in bf16 holds two rows of k in one of the float32 panel: lane by lane, k even in the upper half and k + 1 in
// the lower. Widening takes a mask or a shift. The last row of an odd depth has zeros in the lower halves.
#pragma once

#include "kernels/packing.hpp"

LSTMCORE_BEGIN_NAMESPACE

/// Rows of float32 that a panel of `depth` rows takes.
constexpr std::int64_t panel_rows(bool bf16, std::int64_t depth) noexcept { return bf16 ? (depth + 1) / 2 : depth; }

namespace bf16 {

typedef std::uint32_t Bits __attribute__((vector_size(kPackBytes)));

inline constexpr std::uint32_t kUpper = 0xffff0000U;

inline Bits load_bits(const float* p) noexcept {
  Bits v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
inline Pack<float> upper(Bits pair) noexcept { return reinterpret_cast<Pack<float>>(pair & kUpper); }
inline Pack<float> lower(Bits pair) noexcept { return reinterpret_cast<Pack<float>>(pair << 16); }

/// The nearest bf16, half to even; beyond the largest infinity, NaN stays NaN.
inline Pack<float> rounded(Pack<float> v) noexcept {
  const Bits bits = reinterpret_cast<Bits>(v);
  const Bits nearest = bits + 0x7fffU + (bits >> 16 & 1U);
  const auto nan = (bits & 0x7fffffffU) > 0x7f800000U;
  return reinterpret_cast<Pack<float>>((nan ? bits | 0x400000U : nearest) & kUpper);
}

/// Rounds `count` numbers; `to` may be `from`. Of doubles there is no such thing, and nobody asks.
template <class T>
void round_row(const T* from, std::int64_t count, T* to) noexcept {
  if constexpr (std::is_same_v<T, float>) {
    constexpr int W = kLanes<float>;
    std::int64_t k = 0;
    for (; k + W <= count; k += W) store(to + k, rounded(load(from + k)));
    if (k == count) return;
    float rest[W] = {};
    std::copy_n(from + k, count - k, rest);
    store(rest, rounded(load(rest)));
    std::copy_n(rest, count - k, to + k);
  }
}

/// Two rows of k into one. odd: that of k + 1, null behind the last row of all.
inline void pack_pair(std::int64_t width, const float* even, const float* odd, float* to) noexcept {
  for (std::int64_t column = 0; column < width; column += kLanes<float>) {
    Bits pair = reinterpret_cast<Bits>(rounded(load(even + column)));
    if (odd != nullptr) pair |= reinterpret_cast<Bits>(rounded(load(odd + column))) >> 16;
    __builtin_memcpy(to + column, &pair, sizeof pair);
  }
}

/// `depth` rows of a panel as float32.
inline void widen(std::int64_t depth, std::int64_t width, const float* panel, float* to) noexcept {
  constexpr int W = kLanes<float>;
  for (std::int64_t row = 0; row < depth; row += 2, panel += width, to += 2 * width) {
    for (std::int64_t column = 0; column < width; column += W) {
      const Bits pair = load_bits(panel + column);
      store(to + column, upper(pair));
      store(to + width + column, lower(pair));
    }
  }
}

/// row_tile() with panels in bf16.
template <int kPanels, int kPacks, Start kStart>
__attribute__((noinline)) void row_tile(std::int64_t depth, const float* a, const float* b, std::int64_t next, float* c,
                                        const float* bias) noexcept {
  constexpr int W = kLanes<float>;
  Pack<float> acc[kPanels][kPacks];
  LSTMCORE_UNROLL
  for (int p = 0; p < kPanels; ++p) {
    LSTMCORE_UNROLL
    for (int j = 0; j < kPacks; ++j) {
      if constexpr (kStart == Start::zero) acc[p][j] = Pack<float>{};
      if constexpr (kStart == Start::bias) acc[p][j] = load(bias + (p * kPacks + j) * W);
      if constexpr (kStart == Start::sum) acc[p][j] = load(c + (p * kPacks + j) * W);
    }
  }
  for (std::int64_t k = 0; k + 2 <= depth; k += 2) {
    const float even = a[k];
    const float odd = a[k + 1];
    for (int p = 0; p < kPanels; ++p) {
      for (int j = 0; j < kPacks; ++j) {
        const Bits pair = load_bits(b + p * next + j * W);
        acc[p][j] += even * upper(pair);
        acc[p][j] += odd * lower(pair);
      }
    }
    b += kPacks * W;
  }
  if (depth % 2 != 0) {
    const float last = a[depth - 1];
    for (int p = 0; p < kPanels; ++p) {
      for (int j = 0; j < kPacks; ++j) acc[p][j] += last * upper(load_bits(b + p * next + j * W));
    }
  }
  LSTMCORE_UNROLL
  for (int p = 0; p < kPanels; ++p) {
    LSTMCORE_UNROLL
    for (int j = 0; j < kPacks; ++j) store(c + (p * kPacks + j) * W, acc[p][j]);
  }
}

/// pack_gate_panel() in bf16.
template <class T>
void pack_gate_panel(int gates, unsigned present, const T* w, std::int64_t ldw, std::int64_t hidden, std::int64_t depth,
                     std::int64_t block, T* panel) noexcept {
  if constexpr (std::is_same_v<T, float>) {
    constexpr std::int64_t kChunk = 64;
    alignas(kPackBytes) float rows[kChunk * kPanelPacks * kLanes<float>];
    const std::int64_t width = std::int64_t{gates} * kLanes<float>;
    for (std::int64_t k = 0; k < depth; k += kChunk) {
      const std::int64_t count = std::min(kChunk, depth - k);
      lstmcore::pack_gate_panel<float>(gates, present, w + k, ldw, hidden, count, block, rows);
      for (std::int64_t row = 0; row < count; row += 2, panel += width) {
        pack_pair(width, rows + row * width, row + 1 < count ? rows + (row + 1) * width : nullptr, panel);
      }
    }
  }
}

}  // namespace bf16

LSTMCORE_END_NAMESPACE
