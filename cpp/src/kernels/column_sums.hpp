// Gradients of per-unit weights: sums over rows of products of columns.
#pragma once

#include "kernels/pointwise.hpp"

LSTMCORE_BEGIN_NAMESPACE

/// out[unit] = Σ over rows of a[row][column of unit in gate `gate` of `gates`] · b[row][likewise], or of a alone
/// without b; blocks [first, last) of units. b_pointers: one per row, used instead of b where not null. sums: (last −
/// first)·W elements of scratch.
template <class T>
void column_sums(std::int64_t rows, Rows<const T> a, int gates, int gate, Rows<const T> b, const T* const* b_pointers,
                 int b_gates, int b_gate, std::int64_t hidden, std::int64_t first, std::int64_t last, T* sums,
                 T* out) noexcept {
  constexpr int W = kLanes<T>;
  const std::int64_t count = last - first;
  if (count <= 0) return;
  std::fill_n(sums, count * W, T{0});
  for (std::int64_t row = 0; row < rows; ++row) {
    const T* const left = a[row] + (first * gates + gate) * W;
    const T* right = b_pointers != nullptr ? b_pointers[row] : b.data != nullptr ? b[row] : nullptr;
    if (right == nullptr) {
      for (std::int64_t i = 0; i < count; ++i) store(sums + i * W, load(sums + i * W) + load(left + i * gates * W));
      continue;
    }
    right += (first * b_gates + b_gate) * W;
    for (std::int64_t i = 0; i < count; ++i) {
      store(sums + i * W, load(sums + i * W) + load(left + i * gates * W) * load(right + i * b_gates * W));
    }
  }
  const std::int64_t begin = first * W;
  std::copy_n(sums, std::min(count * W, hidden - begin), out + begin);
}

LSTMCORE_END_NAMESPACE
