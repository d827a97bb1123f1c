// Products of float32 activations with 8-bit weights: activations are rounded to 8 bits row by row as they come, sums
// are exact integers, and the pre-activations that come out are float32 again:
//
//   scale[n] = max_k |a[n, k]| / 127      q[n, k] = nearest integer to a[n, k] · (127 / max_k |a[n, k]|)
//   c[n, j] = start + (Σ_k q[n, k] · w[j, k]) · (scale[n] · scale[j])
//
// One row (N = 1) could keep its activations in float32 and widen the weights in registers. Tried on Zen 3: R · h of an
// LSTM of 64, 256, 512 and 1024 units takes 0.8, 13, 53 and 207 µs that way and 0.3, 5, 22 and 85 µs this way; the
// error of h is half as large (root mean square 0.0006 in place of 0.0011). It is not done: little
// would be left of the gain, and a stream would no longer give what forward gives for a batch.
#pragma once

#include "base/int8_rows.hpp"
#include "kernels/int8_dot.hpp"
#include "kernels/pointwise.hpp"
#include "kernels/product.hpp"

LSTMCORE_BEGIN_NAMESPACE

/// Depth in whole groups of four.
constexpr std::int64_t int8_depth(std::int64_t depth) noexcept { return (depth + 3) / 4 * 4; }

/// Weights of all blocks of units: per block [depth / 4][gate][lane][4], scales and sums in block order.
struct Int8Panels {
  std::int8_t* weights = nullptr;
  float* scale = nullptr;
  std::int32_t* minus_sums = nullptr;  ///< −128 · Σ_k w: what q + 128 adds too much

  static std::int64_t block_size(int gates, std::int64_t depth) noexcept {
    return int8_depth(depth) * gates * kLanes<float>;
  }
};

/// Rows of activations in 8 bits, and the room for them.
struct Int8Rows {
  std::int8_t* q = nullptr;  ///< two planes of integers, see Plane
  std::uint8_t* plane = nullptr;
  float* scale = nullptr;
  std::int32_t* negative = nullptr;  ///< Σ |q| of the negative q
  std::int64_t stride = 0;
  std::int64_t depth = 0;  ///< numbers in a row; set when they are rounded

  /// With room for a whole pack behind the last number.
  static std::int64_t stride_for(std::int64_t depth) noexcept { return (depth + kLanes<float> + 63) / 64 * 64; }
};

/// Packs one block of units from rows of rounded weights (base/int8_rows.hpp); as pack_gate_panel(). Columns
/// [first, first + depth) of w; scales are those of whole rows of `columns` columns.
inline void pack_int8_panel(int gates, const float* w, std::int64_t columns, std::int64_t hidden, std::int64_t first,
                            std::int64_t depth, std::int64_t block, std::int8_t* panel, float* scale,
                            std::int32_t* minus_sums) noexcept {
  constexpr int W = kLanes<float>;
  std::fill_n(panel, Int8Panels::block_size(gates, depth), std::int8_t{0});
  for (int gate = 0; gate < gates; ++gate) {
    for (int lane = 0; lane < W; ++lane) {
      const std::int64_t unit = block * W + lane;
      const int at = gate * W + lane;
      scale[at] = 0.0F;
      minus_sums[at] = 0;
      if (unit >= hidden) continue;
      const float* const row = w + (gate * hidden + unit) * columns;
      scale[at] = int8::row_scale(row, columns);
      for (std::int64_t k = 0; k < depth; ++k) {
        const std::int8_t value = int8::row_integer(row[first + k], scale[at]);
        panel[(k / 4 * gates * W + at) * 4 + k % 4] = value;
        minus_sums[at] -= 128 * std::int32_t{value};
      }
    }
  }
}

namespace int8_detail {

inline IntPack magnitude_bits(Pack<float> v) noexcept { return reinterpret_cast<IntPack>(v) & 0x7fffffff; }

/// Bits of the largest magnitude; NaN and infinity count as larger than every number.
inline IntPack larger(IntPack a, IntPack b) noexcept { return a > b ? a : b; }

typedef std::int8_t Bytes __attribute__((vector_size(kLanes<float>)));

template <Plane kPlane>
void store_integers(IntPack values, std::int8_t* q, std::uint8_t* plane) noexcept {
  const IntPack first = kPlane == Plane::magnitude ? values < 0 : values;
  const Bytes bytes = __builtin_convertvector(first, Bytes);
  __builtin_memcpy(q, &bytes, sizeof bytes);
  if constexpr (kPlane != Plane::none) {
    const IntPack second = kPlane == Plane::magnitude ? (values < 0 ? -values : values) : values + 128;
    const Bytes other = __builtin_convertvector(second, Bytes);
    __builtin_memcpy(plane, &other, sizeof other);
  }
}

/// What `combine` makes of all lanes, in a tree.
template <class Combine>
std::int32_t over_lanes(IntPack pack, Combine&& combine) noexcept {
  std::int32_t lanes[kLanes<float>];
  __builtin_memcpy(lanes, &pack, sizeof lanes);
  for (int half = kLanes<float> / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) lanes[i] = combine(lanes[i], lanes[i + half]);
  }
  return lanes[0];
}

/// Calls visit(pack, position) for `count` numbers, the last pack filled up with zeros.
template <class Visit>
void for_packs(const float* from, std::int64_t count, Visit&& visit) noexcept {
  constexpr int W = kLanes<float>;
  std::int64_t k = 0;
  for (; k + W <= count; k += W) visit(load(from + k), k);
  if (k == count) return;
  float rest[W] = {};
  std::copy_n(from + k, count - k, rest);
  visit(load(rest), k);
}

template <Plane kPlane>
void quantise_row(const Rows<const float>* segments, const std::int64_t* depths, int count, std::int64_t row,
                  Int8Rows& to) noexcept {
  IntPack bits{};
  for (int s = 0; s < count; ++s) {
    for_packs(segments[s][row], depths[s],
              [&](Pack<float> v, std::int64_t) { bits = larger(bits, magnitude_bits(v)); });
  }
  const std::int32_t most = over_lanes(bits, [](std::int32_t a, std::int32_t b) { return a > b ? a : b; });
  float largest = 0.0F;
  __builtin_memcpy(&largest, &most, sizeof largest);
  // Below it 127 / largest would overflow; such a row counts as zeros. One that is not finite makes its outputs NaN.
  constexpr float kLeast = 0x1p-100F;
  const bool finite = most < 0x7f800000;
  to.scale[row] = !finite ? __builtin_nanf("") : largest < kLeast ? 0.0F : largest / 127.0F;
  const float factor = finite && largest >= kLeast ? 127.0F / largest : 0.0F;
  std::int8_t* q = to.q + row * to.stride;
  std::uint8_t* plane = to.plane + row * to.stride;
  IntPack negative{};
  for (int s = 0; s < count; ++s) {
    // A segment's last pack runs over the next one's beginning, which is written after it, or over the row's padding.
    for_packs(segments[s][row], depths[s], [&](Pack<float> v, std::int64_t k) {
      const IntPack values = factor > 0.0F ? nearest(v * factor) : IntPack{};
      if constexpr (kPlane == Plane::magnitude) negative -= values < 0 ? values : IntPack{};
      store_integers<kPlane>(values, q + k, plane + k);
    });
    q += depths[s];
    plane += depths[s];
  }
  if constexpr (kPlane == Plane::magnitude) {
    std::fill_n(plane, 4, std::uint8_t{0});  // the last group of four
    to.negative[row] = over_lanes(negative, [](std::int32_t a, std::int32_t b) { return a + b; });
  }
}

/// Σ |q| of the negative q among some columns, whole groups of four.
inline std::int32_t negative_of(const std::int8_t* turned, const std::uint8_t* magnitude, std::int64_t count) noexcept {
  std::int32_t sum = 0;
  for (std::int64_t k = 0; k < count; ++k) sum += turned[k] & magnitude[k];
  return sum;
}

/// What a tile reads besides its activations.
struct Columns {
  const std::int8_t* weights;
  std::int64_t stride;  ///< bytes from one group of four k to the next
  const float* scale;
  const std::int32_t* minus_sums;
  const float* bias;  ///< null unless Start::bias
};

/// groups: at least 1. Built like the tile of kernels/tile.hpp.
template <class Dot, int kRows, int kPacks>
__attribute__((noinline)) void tile(Start start, std::int64_t groups, const Int8Rows& a, std::int64_t row,
                                    std::int64_t first, const std::int32_t* negative, const Columns& b, float* c,
                                    std::int64_t ldc) noexcept {
  constexpr int W = kLanes<float>;
  typename Dot::Acc acc[kRows][kPacks];
  LSTMCORE_UNROLL
  for (int i = 0; i < kRows; ++i) {
    LSTMCORE_UNROLL
    for (int j = 0; j < kPacks; ++j) acc[i][j] = Dot::start(b.minus_sums + j * W, negative[row + i]);
  }
  const std::int8_t* q = a.q + row * a.stride + first;
  const std::uint8_t* plane = a.plane + row * a.stride + first;
  const std::int8_t* weights = b.weights;
  const std::int64_t stride = a.stride;
  std::int64_t k = 0;
  do {
    typename Dot::Right right[kPacks];
    for (int j = 0; j < kPacks; ++j) right[j] = Dot::right(weights + j * 4 * W);
    for (int i = 0; i < kRows; ++i) {
      const typename Dot::Left left = Dot::left(q + i * stride, plane + i * stride);
      for (int j = 0; j < kPacks; ++j) Dot::add(acc[i][j], left, right[j]);
    }
    q += 4;
    plane += 4;
    weights += b.stride;
  } while (++k < groups);
  LSTMCORE_UNROLL
  for (int i = 0; i < kRows; ++i) {
    LSTMCORE_UNROLL
    for (int j = 0; j < kPacks; ++j) {
      const Pack<float> sum = __builtin_convertvector(Dot::result(acc[i][j]), Pack<float>);
      const Pack<float> scale = a.scale[row + i] * load(b.scale + j * W);
      float* const to = c + i * ldc + j * W;
      const Pack<float> from = start == Start::bias  ? load(b.bias + j * W)
                               : start == Start::sum ? load(to)
                                                     : Pack<float>{};
      store(to, from + sum * scale);
    }
  }
}

/// A tile of kMinRows … kMaxRows rows and 1 … kMaxPacks packs.
template <class Dot, int kMinRows, int kMaxRows, int kMaxPacks>
void tile_of(int rows, int packs, Start start, std::int64_t groups, const Int8Rows& a, std::int64_t row,
             std::int64_t first, const std::int32_t* negative, const Columns& b, float* c, std::int64_t ldc) noexcept {
  if constexpr (kMaxRows > kMinRows) {
    if (rows < kMaxRows) {
      return tile_of<Dot, kMinRows, kMaxRows - 1, kMaxPacks>(rows, packs, start, groups, a, row, first, negative, b, c,
                                                             ldc);
    }
  }
  if constexpr (kMaxPacks > 1) {
    if (packs < kMaxPacks) {
      return tile_of<Dot, kMaxRows, kMaxRows, kMaxPacks - 1>(rows, packs, start, groups, a, row, first, negative, b, c,
                                                             ldc);
    }
  }
  tile<Dot, kMaxRows, kMaxPacks>(start, groups, a, row, first, negative, b, c, ldc);
}

}  // namespace int8_detail

/// The functions for one kind of processor.
struct Int8Kernel {
  /// Rounds rows [0, rows) of segments that stand side by side.
  void (*quantise)(std::int64_t rows, const Rows<const float>* segments, const std::int64_t* depths, int count,
                   Int8Rows& to) noexcept;
  /// C[rows × packs·W] = or += A · one block of b, at most kRowBlock rows; columns [first, first + depth) of A. bias:
  /// with Start::bias.
  void (*product)(int packs, Start start, std::int64_t rows, const Int8Rows& a, std::int64_t first, std::int64_t depth,
                  const std::int8_t* weights, const float* scale, const std::int32_t* minus_sums, float* c,
                  std::int64_t ldc, const float* bias) noexcept;
};

template <class Dot>
void int8_quantise(std::int64_t rows, const Rows<const float>* segments, const std::int64_t* depths, int count,
                   Int8Rows& to) noexcept {
  to.depth = 0;
  for (int s = 0; s < count; ++s) to.depth += depths[s];
  for (std::int64_t row = 0; row < rows; ++row) {
    int8_detail::quantise_row<Dot::kPlane>(segments, depths, count, row, to);
  }
}

template <class Dot>
void int8_product(int packs, Start start, std::int64_t rows, const Int8Rows& a, std::int64_t first, std::int64_t depth,
                  const std::int8_t* weights, const float* scale, const std::int32_t* minus_sums, float* c,
                  std::int64_t ldc, const float* bias) noexcept {
  static_assert(kPanelPacks == 4);
  constexpr int W = kLanes<float>;
  const std::int64_t groups = int8_depth(depth) / 4;
  const int8_detail::Columns columns{weights, std::int64_t{packs} * 4 * W, scale, minus_sums, bias};
  const std::int32_t* negative = a.negative;
  std::int32_t of_columns[kRowBlock];  // of a part of the columns: heads
  if (Dot::kPlane == Plane::magnitude && !(first == 0 && depth == a.depth)) {
    for (std::int64_t row = 0; row < rows; ++row) {
      const std::int64_t at = row * a.stride + first;
      of_columns[row] = int8_detail::negative_of(a.q + at, a.plane + at, 4 * groups);
    }
    negative = of_columns;
  }
  std::int64_t row = 0;
  const auto some_rows = [&](auto tile_of, int count) {
    tile_of(count, packs, start, groups, a, row, first, negative, columns, c + row * ldc, ldc);
    row += count;
  };
  if (packs <= Dot::kStripPacks) {
    while (row + Dot::kStripRows <= rows) {
      some_rows(&int8_detail::tile_of<Dot, Dot::kStripRows, Dot::kStripRows, Dot::kStripPacks>, Dot::kStripRows);
    }
  }
  while (row < rows) {
    some_rows(&int8_detail::tile_of<Dot, 1, Dot::kFullRows, kPanelPacks>,
              static_cast<int>(std::min<std::int64_t>(Dot::kFullRows, rows - row)));
  }
}

/// Of this processor.
inline const Int8Kernel& int8_kernel() noexcept {
  static constexpr Int8Kernel pairs{&int8_quantise<PairDot>, &int8_product<PairDot>};
#if LSTMCORE_HAS_VNNI_DOT
  static constexpr Int8Kernel vnni{&int8_quantise<VnniDot>, &int8_product<VnniDot>};
  static const bool has_vnni = cpu_has_vnni();
  if (has_vnni) return vnni;
#endif
  return pairs;
}

LSTMCORE_END_NAMESPACE
