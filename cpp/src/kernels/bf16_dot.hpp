// Products in bf16 where the processor has an instruction for them: AVX-512 BF16 multiplies two pairs and adds both
// products to a float32 in one instruction (VDPBF16PS), the upper halves first, as kernels/bf16.hpp does in six. Panels
// are the same; activations are put into pairs too.
//
// Intel's manual gives the same two roundings as two multiply-adds. Where a processor adds up otherwise, results would
// differ from other engines' by rounding; one that is further off than that is not trusted, see bf16_dot_works().
#pragma once

#include "kernels/bf16.hpp"

#include <cmath>

#if defined(__AVX512BW__)
#include <cpuid.h>
#define LSTMCORE_HAS_BF16_DOT 1
#else
#define LSTMCORE_HAS_BF16_DOT 0
#endif

LSTMCORE_BEGIN_NAMESPACE

namespace bf16 {

#if LSTMCORE_HAS_BF16_DOT
/// As assembly, since the engine is not compiled for AVX-512 BF16 and asks for it at run time.
struct NativeDot {
  static void add(Pack<float>& acc, Bits left, Bits right) noexcept {
    __asm__("vdpbf16ps %2, %1, %0" : "+v"(acc) : "v"(left), "v"(right));
  }
};
#endif

/// Rows and pairs of a row that are put into pairs at a time: 24 kB.
inline constexpr std::int64_t kDotRows = 96, kDotPairs = 64;

/// `depth` rounded numbers, two in each; the last of an odd depth with zeros.
inline void pair_row(std::int64_t depth, const float* a, std::uint32_t* pairs) noexcept {
  const auto bits_of = [a](std::int64_t k) {
    std::uint32_t bits = 0;
    __builtin_memcpy(&bits, a + k, sizeof bits);
    return bits;
  };
  const std::int64_t whole = depth / 2;
  for (std::int64_t k = 0; k < whole; ++k) pairs[k] = (bits_of(2 * k) & kUpper) | bits_of(2 * k + 1) >> 16;
  if (depth % 2 != 0) pairs[whole] = bits_of(depth - 1) & kUpper;
}

/// C[kRows × kPanels·kPacks·W] = or += rows of `count` pairs times kPanels panels, `next` elements apart; count: at
/// least
/// 1. Built like the tile of kernels/tile.hpp.
template <class Dot, int kRows, int kPanels, int kPacks, Start kStart>
__attribute__((noinline)) void dot_tile(std::int64_t count, const std::uint32_t* a, std::int64_t lda, const float* b,
                                        std::int64_t next, float* c, std::int64_t ldc, const float* bias) noexcept {
  constexpr int W = kLanes<float>;
  constexpr int kColumns = kPanels * kPacks;
  Pack<float> acc[kRows][kColumns];
  LSTMCORE_UNROLL
  for (int i = 0; i < kRows; ++i) {
    LSTMCORE_UNROLL
    for (int j = 0; j < kColumns; ++j) {
      if constexpr (kStart == Start::zero) acc[i][j] = Pack<float>{};
      if constexpr (kStart == Start::bias) acc[i][j] = load(bias + j * W);
      if constexpr (kStart == Start::sum) acc[i][j] = load(c + i * ldc + j * W);
    }
  }
  std::int64_t k = 0;
  do {
    Bits right[kColumns];
    LSTMCORE_UNROLL
    for (int j = 0; j < kColumns; ++j) right[j] = load_bits(b + j / kPacks * next + j % kPacks * W);
    LSTMCORE_UNROLL
    for (int i = 0; i < kRows; ++i) {
      const Bits left = Bits{} + a[i * lda + k];
      LSTMCORE_UNROLL
      for (int j = 0; j < kColumns; ++j) Dot::add(acc[i][j], left, right[j]);
    }
    b += kPacks * W;
  } while (++k < count);
  LSTMCORE_UNROLL
  for (int i = 0; i < kRows; ++i) {
    LSTMCORE_UNROLL
    for (int j = 0; j < kColumns; ++j) store(c + i * ldc + j * W, acc[i][j]);
  }
}

/// Tiles of at most kRows rows over all rows of one panel.
template <class Dot, int kRows, int kPacks, Start kStart>
void dot_rows(std::int64_t rows, std::int64_t count, const std::uint32_t* a, std::int64_t lda, const float* b, float* c,
              std::int64_t ldc, const float* bias) noexcept {
  for (; rows >= kRows; rows -= kRows, a += kRows * lda, c += kRows * ldc) {
    dot_tile<Dot, kRows, 1, kPacks, kStart>(count, a, lda, b, 0, c, ldc, bias);
  }
  if constexpr (kRows > 1) dot_rows<Dot, kRows - 1, kPacks, kStart>(rows, count, a, lda, b, c, ldc, bias);
}

/// C[rows × kPacks·W] = or += A · one panel of pairs; a: rounded already.
template <class Dot, int kPacks>
void dot_product(Start start, std::int64_t rows, std::int64_t depth, const float* a, std::int64_t lda,
                 const float* panel, float* c, std::int64_t ldc, const float* bias) noexcept {
  constexpr int kRows = tile_rows(kPacks);
  if (depth <= 0) {
    if (start == Start::zero) start_tile<float, Start::zero>(static_cast<int>(rows), kPacks, c, ldc, bias);
    if (start == Start::bias) start_tile<float, Start::bias>(static_cast<int>(rows), kPacks, c, ldc, bias);
    return;
  }
  alignas(64) std::uint32_t pairs[kDotRows * kDotPairs];
  for (std::int64_t row = 0; row < rows; row += kDotRows) {
    const std::int64_t m = std::min(kDotRows, rows - row);
    for (std::int64_t k = 0; k < depth; k += 2 * kDotPairs) {
      const std::int64_t d = std::min(2 * kDotPairs, depth - k);
      for (std::int64_t i = 0; i < m; ++i) pair_row(d, a + (row + i) * lda + k, pairs + i * kDotPairs);
      const float* const b = panel + k / 2 * kPacks * kLanes<float>;
      float* const to = c + row * ldc;
      const std::int64_t count = (d + 1) / 2;
      if (k > 0 || start == Start::sum) {
        dot_rows<Dot, kRows, kPacks, Start::sum>(m, count, pairs, kDotPairs, b, to, ldc, nullptr);
      } else if (start == Start::bias) {
        dot_rows<Dot, kRows, kPacks, Start::bias>(m, count, pairs, kDotPairs, b, to, ldc, bias);
      } else {
        dot_rows<Dot, kRows, kPacks, Start::zero>(m, count, pairs, kDotPairs, b, to, ldc, nullptr);
      }
    }
  }
}

/// row_product() of kernels/product.hpp with this instruction.
template <class Dot, int kPacks, Start kStart>
void dot_row_product(std::int64_t depth, const float* a, std::int64_t count, const float* panels, std::int64_t next,
                     float* c, const float* bias) noexcept {
  constexpr int kPanels = kPacks == 1 ? 8 : kPacks == 2 ? 4 : kPacks == 3 ? 3 : 2;
  constexpr std::int64_t kWidth = kPacks * kLanes<float>;
  constexpr std::int64_t kPairs = 4096;
  if (depth <= 0) return start_tile<float, kStart>(1, static_cast<int>(count) * kPacks, c, 0, bias);
  alignas(64) std::uint32_t pairs[kPairs];
  for (std::int64_t k = 0; k < depth; k += 2 * kPairs) {
    const std::int64_t d = std::min(2 * kPairs, depth - k);
    pair_row(d, a + k, pairs);
    std::int64_t p = 0;
    const auto run = [&](auto panels_tag) {
      constexpr int kSome = decltype(panels_tag)::value;
      const float* const b = panels + p * next + k / 2 * kWidth;
      float* const to = c + p * kWidth;
      if (k == 0) {
        dot_tile<Dot, 1, kSome, kPacks, kStart>((d + 1) / 2, pairs, 0, b, next, to, 0, bias + p * kWidth);
      } else {
        dot_tile<Dot, 1, kSome, kPacks, Start::sum>((d + 1) / 2, pairs, 0, b, next, to, 0, nullptr);
      }
      p += kSome;
    };
    while (p + kPanels <= count) run(std::integral_constant<int, kPanels>{});
    while (p < count) run(std::integral_constant<int, 1>{});
  }
}

/// Whether the instruction gives what two multiply-adds give, to the rounding of a sum.
template <class Dot>
bool bf16_dot_works() noexcept {
  constexpr int W = kLanes<float>;
  constexpr int kCount = 64;
  std::uint32_t state = 1;
  const auto next = [&state] {  // numbers of both signs between 2⁻⁴ and 2⁴, as bits of a bf16
    state = state * 1664525U + 1013904223U;
    return (state >> 16 & 0x807fU) | (123U + (state >> 24 & 7U)) << 7;
  };
  std::uint32_t left[kCount], right[kCount * W];
  for (std::uint32_t& pair : left) pair = next() << 16 | next();
  for (std::uint32_t& pair : right) pair = next() << 16 | next();
  float panel[kCount * W], found[W];
  __builtin_memcpy(panel, right, sizeof panel);
  dot_tile<Dot, 1, 1, 1, Start::zero>(kCount, left, 0, panel, 0, found, 0, nullptr);
  const auto value = [](std::uint32_t bits) {
    float v = 0.0F;
    __builtin_memcpy(&v, &bits, sizeof v);
    return v;
  };
  for (int lane = 0; lane < W; ++lane) {
    double sum = 0.0, size = 0.0;
    for (int k = 0; k < kCount; ++k) {
      const std::uint32_t a = left[k], b = right[k * W + lane];
      const double terms[] = {double{value(a & kUpper)} * double{value(b & kUpper)},
                              double{value(a << 16)} * double{value(b << 16)}};
      for (const double term : terms) sum += term, size += std::fabs(term);
    }
    if (!(std::fabs(double{found[lane]} - sum) <= 4e-6 * size)) return false;
  }
  return true;
}

#if LSTMCORE_HAS_BF16_DOT
inline bool cpu_has_bf16_dot() noexcept {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && a >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 &&
         (a >> 5 & 1U) != 0;
}

inline bool uses_dot() noexcept {
  static const bool uses = cpu_has_bf16_dot() && bf16_dot_works<NativeDot>();
  return uses;
}
#endif

}  // namespace bf16

LSTMCORE_END_NAMESPACE
