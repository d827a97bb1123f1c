// Products of small matrices that are both made at run time: packing of the right operand, and Aᵀ·B.
#pragma once

#include "kernels/product.hpp"

LSTMCORE_BEGIN_NAMESPACE

/// One panel of B [depth × columns], row-major with row stride ldb, from its first column on; columns beyond are zero.
template <class T>
void pack_panel(int packs, std::int64_t depth, std::int64_t columns, const T* b, std::int64_t ldb, T* panel) noexcept {
  const std::int64_t width = std::int64_t{packs} * kLanes<T>;
  const std::int64_t present = std::min(width, columns);
  if (present == width) {
    for (std::int64_t k = 0; k < depth; ++k) {
      for (int p = 0; p < packs; ++p) store(panel + k * width + p * kLanes<T>, load(b + k * ldb + p * kLanes<T>));
    }
    return;
  }
  for (std::int64_t k = 0; k < depth; ++k) {
    std::copy_n(b + k * ldb, present, panel + k * width);
    std::fill_n(panel + k * width + present, width - present, T{0});
  }
}

/// One panel of Bᵀ, B [columns × depth].
template <class T>
void pack_panel_transposed(int packs, std::int64_t depth, std::int64_t columns, const T* b, std::int64_t ldb,
                           T* panel) noexcept {
  const std::int64_t width = std::int64_t{packs} * kLanes<T>;
  const std::int64_t present = std::min(width, columns);
  if (present < width) std::fill_n(panel, depth * width, T{0});
  // In squares, so that neither side leaves L1 between two visits of a cache line.
  constexpr std::int64_t kSquare = 16;
  for (std::int64_t first = 0; first < depth; first += kSquare) {
    const std::int64_t last = std::min(depth, first + kSquare);
    for (std::int64_t column = 0; column < present; ++column) {
      const T* from = b + column * ldb;
      for (std::int64_t k = first; k < last; ++k) panel[k * width + column] = from[k];
    }
  }
}

/// All of B [depth × columns], or of Bᵀ where B is [columns × depth].
template <class T>
void pack_panels(const Panels<T>& panels, std::int64_t columns, const T* b, std::int64_t ldb) noexcept {
  for (std::int64_t p = 0; p < panels.count(); ++p) {
    const std::int64_t column = panels.column(p);
    pack_panel<T>(panels.packs(p), panels.depth, columns - column, b + column, ldb, panels.panel(p));
  }
}
template <class T>
void pack_panels_transposed(const Panels<T>& panels, std::int64_t columns, const T* b, std::int64_t ldb) noexcept {
  for (std::int64_t p = 0; p < panels.count(); ++p) {
    const std::int64_t column = panels.column(p);
    pack_panel_transposed<T>(panels.packs(p), panels.depth, columns - column, b + column * ldb, ldb, panels.panel(p));
  }
}

/// Rows of Aᵀ that are packed and taken through all panels together.
template <class T>
constexpr int left_rows() noexcept {
  return tile_rows(kPanelPacks);
}
/// Elements of scratch that transposed_product() needs.
template <class T>
constexpr std::int64_t left_size(std::int64_t depth) noexcept {
  return depth * left_rows<T>() + kLanes<T>;
}

/// C[columns × blocks·W] = or += Aᵀ·B for rows [first, depth) of A [depth × columns] and of B, which is packed whole.
template <class T>
void transposed_product(Start start, std::int64_t first, std::int64_t columns, const T* a, std::int64_t lda,
                        const Panels<T>& b, T* c, std::int64_t ldc, T* scratch) noexcept {
  constexpr int kRows = left_rows<T>();
  const std::int64_t depth = b.depth - first;
  for (std::int64_t column = 0; column < columns; column += kRows) {
    const auto rows = static_cast<int>(std::min<std::int64_t>(kRows, columns - column));
    for (std::int64_t k = 0; k < depth; ++k) std::copy_n(a + (first + k) * lda + column, rows, scratch + k * rows);
    for (std::int64_t p = 0; p < b.count(); ++p) {
      const auto run = [&](auto packs_tag) {
        constexpr int kPacks = decltype(packs_tag)::value;
        const T* panel = b.panel(p) + first * kPacks * kLanes<T>;
        T* to = c + column * ldc + b.column(p);
        if (start == Start::zero) {
          tile_remainder<T, kRows, kPacks, Start::zero, Left::packed>(rows, depth, scratch, 0, panel, to, ldc, nullptr);
        } else {
          tile_remainder<T, kRows, kPacks, Start::sum, Left::packed>(rows, depth, scratch, 0, panel, to, ldc, nullptr);
        }
      };
      switch (b.packs(p)) {
        case 1:
          run(std::integral_constant<int, 1>{});
          break;
        case 2:
          run(std::integral_constant<int, 2>{});
          break;
        case 3:
          run(std::integral_constant<int, 3>{});
          break;
        default:
          run(std::integral_constant<int, kPanelPacks>{});
          break;
      }
    }
  }
}

LSTMCORE_END_NAMESPACE
