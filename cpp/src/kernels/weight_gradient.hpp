// Weight gradients: C[columns of dG × columns of B] = Σ over rows of dGᵀ·B, one product over all steps of all
// sequences.
#pragma once

#include "kernels/pointwise.hpp"
#include "kernels/product.hpp"

#include <limits>

LSTMCORE_BEGIN_NAMESPACE

/// One right operand, e.g. the layer's input or h of the step before, and where its gradient goes.
template <class T>
struct GradientOperand {
  Rows<const T> rows;                  ///< used when pointers is null
  const T* const* pointers = nullptr;  ///< one per row, for rows that do not lie at a fixed distance
  std::int64_t columns = 0;
  T* gradient = nullptr;  ///< user's layout: [G·H, ld_gradient], this operand's first column
  std::int64_t ld_gradient = 0;
  std::int64_t first_column = 0;  ///< of the rows that pointers point to
  unsigned gates = ~0U;           ///< bit mask of the gates whose rows are written
  std::int64_t first_unit = 0;    ///< units whose rows are written
  std::int64_t last_unit = std::numeric_limits<std::int64_t>::max();

  const T* row(std::int64_t r) const noexcept { return pointers != nullptr ? pointers[r] + first_column : rows[r]; }
};

/// Rows of dG that do not lie at a fixed distance.
template <class T>
struct PointerRows {
  const T* const* pointers = nullptr;
  std::int64_t first_column = 0;

  const T* operator[](std::int64_t row) const noexcept { return pointers[row] + first_column; }
  PointerRows from(std::int64_t row) const noexcept { return {pointers + row, first_column}; }
  PointerRows columns(std::int64_t first) const noexcept { return {pointers, first_column + first}; }
};

template <class T>
class WeightGradient {
 public:
  static constexpr int kPacks = 2;
  static constexpr int kTileRows = tile_rows(kPacks);
  static constexpr std::int64_t kDepth = 256;                  ///< rows of dG per pass: a panel of B is 16 kB
  static constexpr std::int64_t kColumnsOfA = 20 * kTileRows;  ///< columns of dG that stay packed in L2

  /// Elements of scratch that one thread needs for operands of at most max_columns columns.
  static std::int64_t scratch(std::int64_t max_columns) noexcept {
    return kColumnsOfA * kDepth + kDepth * kPacks * kLanes<T> + kColumnsOfA * round_up(max_columns) + 4 * kLanes<T>;
  }

  /// Columns [first, last) of dG (block order, `gates` gates, `hidden` units). bias: gradient [G·H], or null.
  /// D: Rows<const T> or PointerRows<T>.
  template <class D>
  static void run(std::int64_t rows, D dg, int gates, std::int64_t hidden, std::int64_t first, std::int64_t last,
                  const GradientOperand<T>* operands, int operand_count, T* bias, T* scratch) noexcept {
    T* packed_a = scratch;
    T* packed_b = packed_a + kColumnsOfA * kDepth + 2 * kLanes<T>;
    T* c = packed_b + kDepth * kPacks * kLanes<T>;
    for (std::int64_t m = first; m < last; m += kColumnsOfA) {
      const std::int64_t width = std::min(kColumnsOfA, last - m);
      if (bias != nullptr) bias_gradient(rows, dg.columns(m), gates, hidden, m, width, bias, c);
      for (int index = 0; index < operand_count; ++index) {
        const GradientOperand<T>& operand = operands[index];
        const std::int64_t ldc = round_up(operand.columns);
        for (std::int64_t k = 0; k == 0 || k < rows; k += kDepth) {
          const std::int64_t depth = std::min(kDepth, rows - k);
          pack_a(depth, dg.from(k).columns(m), width, packed_a);
          accumulate(k, depth, width, packed_a, operand, packed_b, c, ldc);
        }
        for (std::int64_t i = 0; i < width; ++i) {
          const std::int64_t row = user_row(gates, hidden, m + i);
          if (row < 0 || (operand.gates >> (row / hidden) & 1U) == 0) continue;
          const std::int64_t unit = row % hidden;
          if (unit < operand.first_unit || unit >= operand.last_unit) continue;
          std::copy_n(c + i * ldc, operand.columns, operand.gradient + row * operand.ld_gradient);
        }
      }
    }
  }

 private:
  static std::int64_t round_up(std::int64_t columns) noexcept {
    constexpr std::int64_t unit = kPacks * kLanes<T>;
    return (columns + unit - 1) / unit * unit;
  }

  /// Row of W that a column in block order belongs to; −1 for padding.
  static std::int64_t user_row(int gates, std::int64_t hidden, std::int64_t column) noexcept {
    constexpr int W = kLanes<T>;
    const std::int64_t unit = column / (gates * W) * W + column % W;
    return unit < hidden ? column / W % gates * hidden + unit : -1;
  }

  template <class D>
  static void bias_gradient(std::int64_t rows, D dg, int gates, std::int64_t hidden, std::int64_t first,
                            std::int64_t width, T* bias, T* sum) noexcept {
    std::fill_n(sum, width, T{0});
    for (std::int64_t row = 0; row < rows; ++row) {
      const T* d = dg[row];
      for (std::int64_t i = 0; i < width; ++i) sum[i] += d[i];
    }
    for (std::int64_t i = 0; i < width; ++i) {
      const std::int64_t row = user_row(gates, hidden, first + i);
      if (row >= 0) bias[row] = sum[i];
    }
  }

  /// Tiles of kTileRows columns of dG, each k by k. Rows of dG are read from left to right: column by column, rows
  /// whose distance is a power of two would fall into the same cache sets (it took 6% of a training pass at H = 128).
  /// Whole packs are copied; what they write too much is overwritten by the next k.
  template <class D>
  static void pack_a(std::int64_t depth, D dg, std::int64_t width, T* out) noexcept {
    constexpr int W = kLanes<T>;
    const std::int64_t whole = width / kTileRows * kTileRows;
    const std::int64_t rest = width - whole;
    for (std::int64_t k = 0; k < depth; ++k) {
      const T* from = dg[k];
      T* to = out + k * kTileRows;
      const bool last = k + 1 == depth;
      for (std::int64_t i = 0; i < whole; i += kTileRows, to += depth * kTileRows) {
        if (last) {  // what it writes too much would hit the next tile's first k
          std::copy_n(from + i, kTileRows, to);
        } else {
          for (int j = 0; j < kTileRows; j += W) store(to + j, load(from + i + j));
        }
      }
      std::copy_n(from + whole, rest, out + whole * depth + k * rest);
    }
  }

  static void accumulate(std::int64_t k0, std::int64_t depth, std::int64_t width, const T* packed_a,
                         const GradientOperand<T>& operand, T* packed_b, T* c, std::int64_t ldc) noexcept {
    constexpr std::int64_t kWidth = kPacks * kLanes<T>;
    for (std::int64_t column = 0; column < operand.columns; column += kWidth) {
      const std::int64_t present = std::min(kWidth, operand.columns - column);
      if (present == kWidth) {
        for (std::int64_t k = 0; k < depth; ++k) {
          std::memcpy(packed_b + k * kWidth, operand.row(k0 + k) + column, kWidth * sizeof(T));
        }
      } else {
        for (std::int64_t k = 0; k < depth; ++k) {
          std::copy_n(operand.row(k0 + k) + column, present, packed_b + k * kWidth);
          std::fill_n(packed_b + k * kWidth + present, kWidth - present, T{0});
        }
      }
      for (std::int64_t i = 0; i < width; i += kTileRows) {
        const auto n = static_cast<int>(std::min<std::int64_t>(kTileRows, width - i));
        T* out = c + i * ldc + column;
        const T* a = packed_a + i * depth;
        if (k0 == 0) {
          run_tile<Start::zero>(n, depth, a, packed_b, out, ldc);
        } else {
          run_tile<Start::sum>(n, depth, a, packed_b, out, ldc);
        }
      }
    }
  }

  template <Start kStart>
  static void run_tile(int n, std::int64_t depth, const T* a, const T* b, T* c, std::int64_t ldc) noexcept {
    if (n == kTileRows) {
      tile<T, kTileRows, kPacks, kStart, Left::packed>(depth, a, 0, b, c, ldc, nullptr);
    } else {
      tile_remainder<T, kTileRows - 1, kPacks, kStart, Left::packed>(n, depth, a, 0, b, c, ldc, nullptr);
    }
  }
};

LSTMCORE_END_NAMESPACE
