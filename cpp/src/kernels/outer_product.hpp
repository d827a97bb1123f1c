// Sums of outer products of rows that lie in place: C[columns of A × columns of B] += Aᵀ·B. Weight gradients of
// convolutions, where rows are pixels or tiles.
#pragma once

#include "kernels/tile.hpp"

#include <algorithm>

LSTMCORE_BEGIN_NAMESPACE

inline constexpr int kOuterPacks = 2;
/// Columns of B that one tile takes.
template <class T>
inline constexpr std::int64_t kOuterWidth = kOuterPacks * kLanes<T>;
inline constexpr int kOuterRows = tile_rows(kOuterPacks);

template <class T, int kRows>
__attribute__((noinline)) void outer_tile(std::int64_t depth, const T* a, std::int64_t lda, const T* b,
                                          std::int64_t ldb, T* c, std::int64_t ldc) noexcept {
  constexpr int W = kLanes<T>;
  Pack<T> acc[kRows][kOuterPacks];
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < kOuterPacks; ++j) acc[i][j] = load(c + i * ldc + j * W);
  }
  for (std::int64_t k = 0; k < depth; ++k) {
    Pack<T> right[kOuterPacks];
    for (int j = 0; j < kOuterPacks; ++j) right[j] = load(b + j * W);
    for (int i = 0; i < kRows; ++i) {
      const T left = a[i];
      for (int j = 0; j < kOuterPacks; ++j) acc[i][j] += left * right[j];
    }
    a += lda;
    b += ldb;
  }
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < kOuterPacks; ++j) store(c + i * ldc + j * W, acc[i][j]);
  }
}

template <class T, int kMaxRows>
inline void outer_remainder(int rows, std::int64_t depth, const T* a, std::int64_t lda, const T* b, std::int64_t ldb,
                            T* c, std::int64_t ldc) noexcept {
  if constexpr (kMaxRows > 0) {
    if (rows == kMaxRows) {
      outer_tile<T, kMaxRows>(depth, a, lda, b, ldb, c, ldc);
    } else {
      outer_remainder<T, kMaxRows - 1>(rows, depth, a, lda, b, ldb, c, ldc);
    }
  }
}

/// C[rows × columns, rounded up to kOuterWidth] += A[depth × rows]ᵀ · B[depth × columns]. Reads B, and adds to C, up to
/// that width: what comes out behind `columns` is not meant for use.
template <class T>
void outer_product(std::int64_t rows, std::int64_t columns, std::int64_t depth, const T* a, std::int64_t lda,
                   const T* b, std::int64_t ldb, T* c, std::int64_t ldc) noexcept {
  for (std::int64_t j = 0; j < columns; j += kOuterWidth<T>) {
    std::int64_t i = 0;
    for (; i + kOuterRows <= rows; i += kOuterRows) {
      outer_tile<T, kOuterRows>(depth, a + i, lda, b + j, ldb, c + i * ldc + j, ldc);
    }
    outer_remainder<T, kOuterRows - 1>(static_cast<int>(rows - i), depth, a + i, lda, b + j, ldb, c + i * ldc + j, ldc);
  }
}

LSTMCORE_END_NAMESPACE
