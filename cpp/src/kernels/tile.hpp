// The register tile: C[rows × packs·W] (+)= A[rows × depth] · B[depth × packs·W], everything else is built on it.
//
// Each element of C is one chain of fused multiply-adds in the order of k, whatever the tile's size: results do not
// depend on how rows or columns are cut into tiles, on the batch a sequence stands in, or on the number of threads.
#pragma once

#include "math/pack.hpp"

#include <cstdint>

LSTMCORE_BEGIN_NAMESPACE

/// What the accumulators start from.
enum class Start { zero, bias, sum };

/// How A lies in memory: rows of contiguous k, or packed k by k with the tile's rows side by side.
enum class Left { rows, packed };

/// Rows of the tile for a given number of packs of columns: accumulators, one row of B and a broadcast fill the
/// registers.
constexpr int tile_rows(int packs) noexcept {
  const int usable = kPackRegisters == 32 ? 24 : 12;
  const int rows = usable / packs;
  return rows < 1 ? 1 : rows > 12 ? 12 : rows;
}

/// Widest panel of columns, in packs.
inline constexpr int kPanelPacks = 4;

// Never inlined: inside a larger function GCC 12 runs out of registers and spills accumulators (the weight gradient
// took 2.3 times as long), alone it keeps them all. It does so only where loops over accumulators are unrolled before
// it looks at them, and where no path goes around the loop over k: otherwise each tile copied all of them through the
// stack on its way in and out (8% of a tile of depth 64, 6% at 128).

template <class T, int kRows, int kPacks, Start kStart, Left kLeft>
__attribute__((noinline)) void tile_of_depth(std::int64_t depth, const T* a, std::int64_t lda, const T* b, T* c,
                                             std::int64_t ldc, const T* bias) noexcept {
  constexpr int W = kLanes<T>;
  Pack<T> acc[kRows][kPacks];
  LSTMCORE_UNROLL
  for (int i = 0; i < kRows; ++i) {
    LSTMCORE_UNROLL
    for (int j = 0; j < kPacks; ++j) {
      if constexpr (kStart == Start::zero) acc[i][j] = Pack<T>{};
      if constexpr (kStart == Start::bias) acc[i][j] = load(bias + j * W);
      if constexpr (kStart == Start::sum) acc[i][j] = load(c + i * ldc + j * W);
    }
  }
  std::int64_t k = 0;
  do {
    Pack<T> right[kPacks];
    for (int j = 0; j < kPacks; ++j) right[j] = load(b + j * W);
    for (int i = 0; i < kRows; ++i) {
      const T left = kLeft == Left::rows ? a[i * lda + k] : a[k * kRows + i];
      for (int j = 0; j < kPacks; ++j) acc[i][j] += left * right[j];
    }
    b += kPacks * W;
  } while (++k < depth);
  LSTMCORE_UNROLL
  for (int i = 0; i < kRows; ++i) {
    LSTMCORE_UNROLL
    for (int j = 0; j < kPacks; ++j) store(c + i * ldc + j * W, acc[i][j]);
  }
}

/// What a tile of depth 0 leaves in C.
template <class T, Start kStart>
void start_tile(int rows, int packs, T* c, std::int64_t ldc, const T* bias) noexcept {
  for (int i = 0; i < rows && kStart != Start::sum; ++i) {
    for (int j = 0; j < packs * kLanes<T>; ++j) c[i * ldc + j] = kStart == Start::zero ? T{0} : bias[j];
  }
}

template <class T, int kRows, int kPacks, Start kStart, Left kLeft>
inline void tile(std::int64_t depth, const T* a, std::int64_t lda, const T* b, T* c, std::int64_t ldc,
                 const T* bias) noexcept {
  if (depth > 0) {
    tile_of_depth<T, kRows, kPacks, kStart, kLeft>(depth, a, lda, b, c, ldc, bias);
  } else {
    start_tile<T, kStart>(kRows, kPacks, c, ldc, bias);
  }
}

/// The tile for a number of rows that is known at run time only, at most kMaxRows. A packed A has exactly `rows` rows
/// side by side.
template <class T, int kMaxRows, int kPacks, Start kStart, Left kLeft>
inline void tile_remainder(int rows, std::int64_t depth, const T* a, std::int64_t lda, const T* b, T* c,
                           std::int64_t ldc, const T* bias) noexcept {
  if constexpr (kMaxRows > 0) {
    if (rows == kMaxRows) {
      tile<T, kMaxRows, kPacks, kStart, kLeft>(depth, a, lda, b, c, ldc, bias);
    } else {
      tile_remainder<T, kMaxRows - 1, kPacks, kStart, kLeft>(rows, depth, a, lda, b, c, ldc, bias);
    }
  }
}

/// One row times several panels, `next` elements apart. A tile of one row leaves most accumulators unused, and then
/// each multiply-add waits for the one before; panels side by side keep enough of them under way. c: the panels'
/// columns one after the other, bias likewise. depth: at least 1.
template <class T, int kPanels, int kPacks, Start kStart>
__attribute__((noinline)) void row_tile(std::int64_t depth, const T* a, const T* b, std::int64_t next, T* c,
                                        const T* bias) noexcept {
  constexpr int W = kLanes<T>;
  Pack<T> acc[kPanels][kPacks];
  LSTMCORE_UNROLL
  for (int p = 0; p < kPanels; ++p) {
    LSTMCORE_UNROLL
    for (int j = 0; j < kPacks; ++j) {
      if constexpr (kStart == Start::zero) acc[p][j] = Pack<T>{};
      if constexpr (kStart == Start::bias) acc[p][j] = load(bias + (p * kPacks + j) * W);
      if constexpr (kStart == Start::sum) acc[p][j] = load(c + (p * kPacks + j) * W);
    }
  }
  std::int64_t k = 0;
  do {
    const T left = a[k];
    for (int p = 0; p < kPanels; ++p) {
      for (int j = 0; j < kPacks; ++j) acc[p][j] += left * load(b + p * next + j * W);
    }
    b += kPacks * W;
  } while (++k < depth);
  LSTMCORE_UNROLL
  for (int p = 0; p < kPanels; ++p) {
    LSTMCORE_UNROLL
    for (int j = 0; j < kPacks; ++j) store(c + (p * kPacks + j) * W, acc[p][j]);
  }
}

LSTMCORE_END_NAMESPACE
