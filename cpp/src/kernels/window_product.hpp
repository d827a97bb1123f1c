// Convolution as products in place: C[pixels × packs·W] (+)= Σ over the runs of a window of A[pixels, shifted] ·
// B[run].
#pragma once

#include "kernels/image.hpp"

LSTMCORE_BEGIN_NAMESPACE

/// Rows of k that stay in L1 while all pixels of a strip pass: more than panel_product() takes, so that a window of
/// 3 × 3 × 16 is one piece.
template <class T>
constexpr std::int64_t window_chunk(int packs) noexcept {
  return 24576 / (packs * kPackBytes);
}

/// The register tile (kernels/tile.hpp) with the loop over runs inside: accumulators are loaded and stored once for all
/// taps. Again each element is one chain of multiply-adds in the order of k.
template <class T, int kRows, int kPacks, Start kStart>
__attribute__((noinline)) void window_tile(const Run* runs, std::int64_t count, const T* a, std::int64_t lda,
                                           const T* b, T* c, std::int64_t ldc, const T* bias) noexcept {
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
  for (std::int64_t r = 0; r < count; ++r) {
    const T* const from = a + runs[r].offset;
    const std::int64_t depth = runs[r].depth;
    for (std::int64_t k = 0; k < depth; ++k) {
      Pack<T> right[kPacks];
      for (int j = 0; j < kPacks; ++j) right[j] = load(b + j * W);
      for (int i = 0; i < kRows; ++i) {
        const T left = from[i * lda + k];
        for (int j = 0; j < kPacks; ++j) acc[i][j] += left * right[j];
      }
      b += kPacks * W;
    }
  }
  LSTMCORE_UNROLL
  for (int i = 0; i < kRows; ++i) {
    LSTMCORE_UNROLL
    for (int j = 0; j < kPacks; ++j) store(c + i * ldc + j * W, acc[i][j]);
  }
}

template <class T, int kMaxRows, int kPacks, Start kStart>
inline void window_remainder(int rows, const Run* runs, std::int64_t count, const T* a, std::int64_t lda, const T* b,
                             T* c, std::int64_t ldc, const T* bias) noexcept {
  if constexpr (kMaxRows > 0) {
    if (rows == kMaxRows) {
      window_tile<T, kMaxRows, kPacks, kStart>(runs, count, a, lda, b, c, ldc, bias);
    } else {
      window_remainder<T, kMaxRows - 1, kPacks, kStart>(rows, runs, count, a, lda, b, c, ldc, bias);
    }
  }
}

/// Where a strip of lines is read and written: the first pixel of the first line, distances of pixels and of lines.
template <class T>
struct StripLines {
  T* data = nullptr;
  std::int64_t pixel = 0, line = 0;

  T* at(std::int64_t y) const noexcept { return data + y * line; }
};

/// Some lines of pixels through the part [first, last) of a window's runs.
template <class T, int kPacks, Start kStart>
void window_lines(std::int64_t lines, std::int64_t pixels, const Run* runs, std::int64_t count, StripLines<const T> a,
                  const T* panel, StripLines<T> c, const T* bias) noexcept {
  constexpr int kRows = tile_rows(kPacks);
  for (std::int64_t y = 0; y < lines; ++y) {
    const T* from = a.at(y);
    T* to = c.at(y);
    std::int64_t x = 0;
    for (; x + kRows <= pixels; x += kRows) {
      window_tile<T, kRows, kPacks, kStart>(runs, count, from + x * a.pixel, a.pixel, panel, to + x * c.pixel, c.pixel,
                                            bias);
    }
    window_remainder<T, kRows - 1, kPacks, kStart>(static_cast<int>(pixels - x), runs, count, from + x * a.pixel,
                                                   a.pixel, panel, to + x * c.pixel, c.pixel, bias);
  }
}

template <class T, int kPacks>
void window_lines(Start start, std::int64_t lines, std::int64_t pixels, const Run* runs, std::int64_t count,
                  StripLines<const T> a, const T* panel, StripLines<T> c, const T* bias) noexcept {
  switch (start) {
    case Start::zero:
      window_lines<T, kPacks, Start::zero>(lines, pixels, runs, count, a, panel, c, bias);
      break;
    case Start::bias:
      window_lines<T, kPacks, Start::bias>(lines, pixels, runs, count, a, panel, c, bias);
      break;
    case Start::sum:
      window_lines<T, kPacks, Start::sum>(lines, pixels, runs, count, a, panel, c, bias);
      break;
  }
}

/// A strip through a whole window, in pieces that stay in L1. panel: [tap][channel][pack][lane].
template <class T>
void window_product(int packs, Start start, std::int64_t lines, std::int64_t pixels, const std::vector<Run>& runs,
                    StripLines<const T> a, const T* panel, StripLines<T> c, const T* bias) noexcept {
  const std::int64_t limit = window_chunk<T>(packs);
  std::size_t first = 0;
  while (first < runs.size()) {
    std::int64_t depth = runs[first].depth;
    std::size_t last = first + 1;
    while (last < runs.size() && depth + runs[last].depth <= limit) depth += runs[last++].depth;
    const auto count = static_cast<std::int64_t>(last - first);
    static_assert(kPanelPacks == 4);
    switch (packs) {
      case 1:
        window_lines<T, 1>(start, lines, pixels, &runs[first], count, a, panel, c, bias);
        break;
      case 2:
        window_lines<T, 2>(start, lines, pixels, &runs[first], count, a, panel, c, bias);
        break;
      case 3:
        window_lines<T, 3>(start, lines, pixels, &runs[first], count, a, panel, c, bias);
        break;
      default:
        window_lines<T, 4>(start, lines, pixels, &runs[first], count, a, panel, c, bias);
        break;
    }
    start = Start::sum;
    panel += depth * packs * kLanes<T>;
    first = last;
  }
}

LSTMCORE_END_NAMESPACE
