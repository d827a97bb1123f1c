// Products of rows of activations with packed panels of weights.
#pragma once

#include "kernels/bf16_dot.hpp"

LSTMCORE_BEGIN_NAMESPACE

/// Rows of k that one pass over a panel takes: 16 kB of it stay in L1 while all row tiles use them.
template <class T>
constexpr std::int64_t depth_chunk(int packs) noexcept {
  return 16384 / (packs * kPackBytes);
}

/// Where a matrix of weights, panel after panel, is read from in every time step.
enum class From { cache, memory };

/// 16 MB (H = 1024) come in time only when they are asked for beforehand: products of 32 to 96 rows took 12% to 5%
/// longer without. At 4 MB (H = 512) and below asking costs more than it brings.
template <class T>
constexpr From where_from(std::int64_t elements) noexcept {
  return elements * static_cast<std::int64_t>(sizeof(T)) > (8 << 20) ? From::memory : From::cache;
}

/// C[rows × packs·W] = or += A[rows × depth] · one panel. bias: packs·W elements with Start::bias. From::memory: what
/// lies behind a piece of the panel is fetched into L2 while that piece is at work.
template <class T, int kPacks>
void panel_product(Start start, std::int64_t rows, std::int64_t depth, const T* a, std::int64_t lda, const T* panel,
                   T* c, std::int64_t ldc, const T* bias = nullptr, From from_where = From::cache) noexcept {
  constexpr int kRows = tile_rows(kPacks);
  constexpr std::int64_t kChunk = depth_chunk<T>(kPacks);
  std::int64_t k = 0;
  do {
    const std::int64_t d = std::min(kChunk, depth - k);
    const Start from = k > 0 ? Start::sum : start;
    const T* ahead = panel + d * kPacks * kLanes<T>;
    const std::int64_t tiles = from_where == From::memory ? rows / kRows : 0;
    const std::int64_t fetched =
        tiles > 0 ? (d * kPacks * kPackBytes / 64 + tiles - 1) / tiles : 0;  // lines, by a tile
    const auto run = [&](auto start_tag) {
      constexpr Start kStart = decltype(start_tag)::value;
      std::int64_t row = 0;
      for (; row + kRows <= rows; row += kRows) {
        for (std::int64_t line = 0; line < fetched; ++line, ahead += 64 / sizeof(T)) __builtin_prefetch(ahead, 0, 2);
        tile<T, kRows, kPacks, kStart, Left::rows>(d, a + row * lda + k, lda, panel, c + row * ldc, ldc, bias);
      }
      // Tried: sharing the last full tile's rows with the rest in two halves, 3 + 1 as 2 + 2. 1% to 5% slower.
      tile_remainder<T, kRows - 1, kPacks, kStart, Left::rows>(static_cast<int>(rows - row), d, a + row * lda + k, lda,
                                                               panel, c + row * ldc, ldc, bias);
    };
    switch (from) {
      case Start::zero:
        run(std::integral_constant<Start, Start::zero>{});
        break;
      case Start::bias:
        run(std::integral_constant<Start, Start::bias>{});
        break;
      case Start::sum:
        run(std::integral_constant<Start, Start::sum>{});
        break;
    }
    k += d;
    panel += d * kPacks * kLanes<T>;
  } while (k < depth);
}

/// The same for a panel width known at run time, 1 … kPanelPacks.
template <class T>
void panel_product(int packs, Start start, std::int64_t rows, std::int64_t depth, const T* a, std::int64_t lda,
                   const T* panel, T* c, std::int64_t ldc, const T* bias = nullptr, From from = From::cache) noexcept {
  static_assert(kPanelPacks == 4);
  switch (packs) {
    case 1:
      panel_product<T, 1>(start, rows, depth, a, lda, panel, c, ldc, bias, from);
      break;
    case 2:
      panel_product<T, 2>(start, rows, depth, a, lda, panel, c, ldc, bias, from);
      break;
    case 3:
      panel_product<T, 3>(start, rows, depth, a, lda, panel, c, ldc, bias, from);
      break;
    default:
      panel_product<T, 4>(start, rows, depth, a, lda, panel, c, ldc, bias, from);
      break;
  }
}

/// C[count · packs·W] = or += a[depth] · `count` panels, `next` elements apart: one row, whose sums are those of
/// panel_product() to the last bit. bias: count · packs·W elements with Start::bias. kBf16: panels of pairs, see
/// kernels/bf16.hpp; a is rounded already.
template <class T, int kPacks, Start kStart, bool kBf16>
void row_product(std::int64_t depth, const T* a, std::int64_t count, const T* panels, std::int64_t next, T* c,
                 const T* bias) noexcept {
  constexpr int kPanels = kPacks == 1 ? 8 : kPacks == 2 ? 4 : kPacks == 3 ? 3 : 2;
  constexpr std::int64_t kWidth = kPacks * kLanes<T>;
  if (depth <= 0) {
    start_tile<T, kStart>(1, static_cast<int>(count) * kPacks, c, 0, bias);
    return;
  }
  std::int64_t p = 0;
  const auto run = [&](auto panels_tag) {
    constexpr int kSome = decltype(panels_tag)::value;
    if constexpr (kBf16) {
      bf16::row_tile<kSome, kPacks, kStart>(depth, a, panels + p * next, next, c + p * kWidth, bias + p * kWidth);
    } else {
      row_tile<T, kSome, kPacks, kStart>(depth, a, panels + p * next, next, c + p * kWidth, bias + p * kWidth);
    }
    p += kSome;
  };
  while (p + kPanels <= count) run(std::integral_constant<int, kPanels>{});
  while (p < count) run(std::integral_constant<int, 1>{});
}

template <class T>
using RowProduct = void (*)(std::int64_t depth, const T* a, std::int64_t count, const T* panels, std::int64_t next,
                            T* c, const T* bias) noexcept;

/// The same for a panel width known at run time, 1 … kPanelPacks.
template <class T>
RowProduct<T> row_product(int packs, Start start, bool bf16) noexcept {
  static_assert(kPanelPacks == 4);
  const auto of_weights = [start](auto packs_tag, auto bf16_tag) -> RowProduct<T> {
    constexpr int kPacks = decltype(packs_tag)::value;
    constexpr bool kBf16 = decltype(bf16_tag)::value;
#if LSTMCORE_HAS_BF16_DOT
    if constexpr (kBf16) {
      using Dot = bf16::NativeDot;
      if (bf16::uses_dot()) {
        if (start == Start::bias) return &bf16::dot_row_product<Dot, kPacks, Start::bias>;
        return start == Start::sum ? &bf16::dot_row_product<Dot, kPacks, Start::sum>
                                   : &bf16::dot_row_product<Dot, kPacks, Start::zero>;
      }
    }
#endif
    if (start == Start::bias) return &row_product<T, kPacks, Start::bias, kBf16>;
    return start == Start::sum ? &row_product<T, kPacks, Start::sum, kBf16>
                               : &row_product<T, kPacks, Start::zero, kBf16>;
  };
  const auto of = [&](auto packs_tag) -> RowProduct<T> {
    if constexpr (std::is_same_v<T, float>) {
      if (bf16) return of_weights(packs_tag, std::true_type{});
    }
    return of_weights(packs_tag, std::false_type{});
  };
  if (packs == 1) return of(std::integral_constant<int, 1>{});
  if (packs == 2) return of(std::integral_constant<int, 2>{});
  return packs == 3 ? of(std::integral_constant<int, 3>{}) : of(std::integral_constant<int, 4>{});
}

/// panel_product() with a panel of T or, with bf16, of pairs; those are widened in L1 for all rows.
template <class T>
void weight_product(bool bf16, int packs, Start start, std::int64_t rows, std::int64_t depth, const T* a,
                    std::int64_t lda, const T* panel, T* c, std::int64_t ldc, const T* bias = nullptr,
                    From from = From::cache) noexcept {
  if constexpr (std::is_same_v<T, float>) {
    if (bf16 && rows == 1) return row_product<T>(packs, start, true)(depth, a, 1, panel, 0, c, bias);
#if LSTMCORE_HAS_BF16_DOT
    if (bf16 && bf16::uses_dot()) {
      using Dot = bf16::NativeDot;
      if (packs == 1) return bf16::dot_product<Dot, 1>(start, rows, depth, a, lda, panel, c, ldc, bias);
      if (packs == 2) return bf16::dot_product<Dot, 2>(start, rows, depth, a, lda, panel, c, ldc, bias);
      if (packs == 3) return bf16::dot_product<Dot, 3>(start, rows, depth, a, lda, panel, c, ldc, bias);
      return bf16::dot_product<Dot, 4>(start, rows, depth, a, lda, panel, c, ldc, bias);
    }
#endif
    if (bf16) {
      alignas(64) T wide[16384 / sizeof(T)];
      const std::int64_t width = std::int64_t{packs} * kLanes<T>;
      const std::int64_t chunk = depth_chunk<T>(packs) / 2 * 2;
      for (std::int64_t k = 0; k == 0 || k < depth; k += chunk) {
        const std::int64_t d = std::min(chunk, depth - k);
        bf16::widen(d, width, panel + k / 2 * width, wide);
        panel_product<T>(packs, k > 0 ? Start::sum : start, rows, d, a + k, lda, wide, c, ldc, bias);
      }
      return;
    }
  }
  panel_product<T>(packs, start, rows, depth, a, lda, panel, c, ldc, bias, from);
}

/// A row product with its operands.
template <class T>
struct SingleProduct {
  RowProduct<T> product = nullptr;
  std::int64_t depth = 0;
  const T* a = nullptr;
  std::int64_t count = 0;
  const T* panels = nullptr;
  std::int64_t next = 0;
  T* c = nullptr;
  const T* bias = nullptr;

  void run() const noexcept { product(depth, a, count, panels, next, c, bias); }
};

/// A matrix packed in panels of kPanelPacks packs, the last one narrower.
template <class T>
struct Panels {
  T* data = nullptr;
  std::int64_t depth = 0;
  std::int64_t blocks = 0;  ///< packs of columns in all

  static std::int64_t size(std::int64_t depth, std::int64_t blocks) noexcept { return depth * blocks * kLanes<T>; }
  std::int64_t count() const noexcept { return (blocks + kPanelPacks - 1) / kPanelPacks; }
  int packs(std::int64_t panel) const noexcept {
    return static_cast<int>(std::min<std::int64_t>(kPanelPacks, blocks - panel * kPanelPacks));
  }
  std::int64_t column(std::int64_t panel) const noexcept { return panel * kPanelPacks * kLanes<T>; }
  T* panel(std::int64_t index) const noexcept { return data + column(index) * depth; }
};

/// Rows that are taken through all panels together: their part of A stays in L2.
inline constexpr std::int64_t kRowBlock = 96;

/// C[rows × blocks·W] = or += A[rows × depth] · panels [first, last).
template <class T>
void rows_times_panels(Start start, std::int64_t rows, const T* a, std::int64_t lda, const Panels<T>& b,
                       std::int64_t first, std::int64_t last, T* c, std::int64_t ldc) noexcept {
  const From from = where_from<T>(Panels<T>::size(b.depth, b.blocks));
  for (std::int64_t row = 0; row < rows; row += kRowBlock) {
    const std::int64_t m = std::min(kRowBlock, rows - row);
    for (std::int64_t p = first; p < last; ++p) {
      panel_product<T>(b.packs(p), start, m, b.depth, a + row * lda, lda, b.panel(p), c + row * ldc + b.column(p), ldc,
                       nullptr, from);
    }
  }
}

LSTMCORE_END_NAMESPACE
