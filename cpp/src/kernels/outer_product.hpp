// Sums of outer products of rows that lie in place: C[columns of A × columns of B] += Aᵀ·B. Weight gradients of
// convolutions, where rows are pixels or tiles.
#pragma once

#include "kernels/tile.hpp"

#include <algorithm>

LSTMCORE_BEGIN_NAMESPACE

/// depth: at least 1. Built like the tile of kernels/tile.hpp.
template <class T, int kRows, int kPacks>
__attribute__((noinline)) void outer_tile(std::int64_t depth, const T* a, std::int64_t lda, const T* b,
                                          std::int64_t ldb, T* c, std::int64_t ldc) noexcept {
  constexpr int W = kLanes<T>;
  Pack<T> acc[kRows][kPacks];
  LSTMCORE_UNROLL
  for (int i = 0; i < kRows; ++i) {
    LSTMCORE_UNROLL
    for (int j = 0; j < kPacks; ++j) acc[i][j] = load(c + i * ldc + j * W);
  }
  std::int64_t k = 0;
  do {
    Pack<T> right[kPacks];
    for (int j = 0; j < kPacks; ++j) right[j] = load(b + j * W);
    for (int i = 0; i < kRows; ++i) {
      const T left = a[i];
      for (int j = 0; j < kPacks; ++j) acc[i][j] += left * right[j];
    }
    a += lda;
    b += ldb;
  } while (++k < depth);
  LSTMCORE_UNROLL
  for (int i = 0; i < kRows; ++i) {
    LSTMCORE_UNROLL
    for (int j = 0; j < kPacks; ++j) store(c + i * ldc + j * W, acc[i][j]);
  }
}

template <class T, int kMaxRows, int kPacks>
inline void outer_remainder(int rows, std::int64_t depth, const T* a, std::int64_t lda, const T* b, std::int64_t ldb,
                            T* c, std::int64_t ldc) noexcept {
  if constexpr (kMaxRows > 0) {
    if (rows == kMaxRows) {
      outer_tile<T, kMaxRows, kPacks>(depth, a, lda, b, ldb, c, ldc);
    } else {
      outer_remainder<T, kMaxRows - 1, kPacks>(rows, depth, a, lda, b, ldb, c, ldc);
    }
  }
}

template <class T, int kPacks>
void outer_panel(std::int64_t rows, std::int64_t depth, const T* a, std::int64_t lda, const T* b, std::int64_t ldb,
                 T* c, std::int64_t ldc) noexcept {
  constexpr int kRows = tile_rows(kPacks);
  std::int64_t i = 0;
  for (; i + kRows <= rows; i += kRows) outer_tile<T, kRows, kPacks>(depth, a + i, lda, b, ldb, c + i * ldc, ldc);
  outer_remainder<T, kRows - 1, kPacks>(static_cast<int>(rows - i), depth, a + i, lda, b, ldb, c + i * ldc, ldc);
}

/// C[rows × columns, rounded up to whole packs] += A[depth × rows]ᵀ · B[depth × columns]. Reads B, and adds to C, up to
/// that width: what comes out behind `columns` is not meant for use.
template <class T>
void outer_product(std::int64_t rows, std::int64_t columns, std::int64_t depth, const T* a, std::int64_t lda,
                   const T* b, std::int64_t ldb, T* c, std::int64_t ldc) noexcept {
  constexpr int W = kLanes<T>;
  if (depth <= 0) return;
  for (std::int64_t j = 0; j < columns; j += 2 * W) {
    if (columns - j > W) {
      outer_panel<T, 2>(rows, depth, a, lda, b + j, ldb, c + j, ldc);
    } else {
      outer_panel<T, 1>(rows, depth, a, lda, b + j, ldb, c + j, ldc);
    }
  }
}

LSTMCORE_END_NAMESPACE
