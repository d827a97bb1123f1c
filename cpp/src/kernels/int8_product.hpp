// Products of float32 activations with 8-bit weights: activations are rounded to 8 bits row by row as they come, sums
// are exact integers, and the pre-activations that come out are float32 again:
//
//   c[n, j] = start + (Σ_k q[n, k] · w[j, k]) · (scale[n] · scale[j]),   q[n, k] = nearest(a[n, k] · (127 / max_k |a[n,
//   k]|)), scale[n] = max_k |a[n, k]| / 127
//
// One row (N = 1) could keep its activations in float32 and widen the weights in registers. It does not: eight weights
// then take a conversion to 32 bits, one to float and a multiply-add, three times the instructions of four integer
// products a lane, and a stream would no longer give what forward gives for a batch.
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
  std::int8_t* q = nullptr;
  std::uint8_t* plane = nullptr;  ///< |q| or q + 128, see Plane
  float* scale = nullptr;
  std::int64_t stride = 0;

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
  const Bytes bytes = __builtin_convertvector(values, Bytes);
  __builtin_memcpy(q, &bytes, sizeof bytes);
  if constexpr (kPlane != Plane::none) {
    const Bytes other =
        __builtin_convertvector(kPlane == Plane::magnitude ? (values < 0 ? -values : values) : values + 128, Bytes);
    __builtin_memcpy(plane, &other, sizeof other);
  }
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
                  const Int8Rows& to) noexcept {
  IntPack bits{};
  for (int s = 0; s < count; ++s) {
    for_packs(segments[s][row], depths[s],
              [&](Pack<float> v, std::int64_t) { bits = larger(bits, magnitude_bits(v)); });
  }
  std::int32_t most = 0;
  for (int lane = 0; lane < kLanes<float>; ++lane) most = std::max(most, bits[lane]);
  float largest = 0.0F;
  __builtin_memcpy(&largest, &most, sizeof largest);
  // Below it 127 / largest would overflow; such a row counts as zeros. One that is not finite makes its outputs NaN.
  constexpr float kLeast = 0x1p-100F;
  const bool finite = most < 0x7f800000;
  to.scale[row] = !finite ? __builtin_nanf("") : largest < kLeast ? 0.0F : largest / 127.0F;
  const float factor = finite && largest >= kLeast ? 127.0F / largest : 0.0F;
  std::int8_t* q = to.q + row * to.stride;
  std::uint8_t* plane = to.plane + row * to.stride;
  for (int s = 0; s < count; ++s) {
    // A segment's last pack runs over the next one's beginning, which is written after it, or over the row's padding.
    for_packs(segments[s][row], depths[s], [&](Pack<float> v, std::int64_t k) {
      store_integers<kPlane>(factor > 0.0F ? nearest(v * factor) : IntPack{}, q + k, plane + k);
    });
    q += depths[s];
    plane += depths[s];
  }
}

/// What a tile reads besides its activations.
struct Columns {
  const std::int8_t* weights;
  std::int64_t stride;  ///< bytes from one group of four k to the next
  const float* scale;
  const std::int32_t* minus_sums;
  const float* bias;  ///< null unless Start::bias
};

template <class Dot, int kRows, int kPacks>
__attribute__((noinline)) void tile(Start start, std::int64_t groups, const Int8Rows& a, std::int64_t row,
                                    std::int64_t first, const Columns& b, float* c, std::int64_t ldc) noexcept {
  constexpr int W = kLanes<float>;
  typename Dot::Acc acc[kRows][kPacks];
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < kPacks; ++j) acc[i][j] = Dot::start(b.minus_sums + j * W);
  }
  const std::int8_t* q = a.q + row * a.stride + first;
  const std::uint8_t* plane = a.plane + row * a.stride + first;
  const std::int8_t* weights = b.weights;
  const std::int64_t stride = a.stride;
  for (std::int64_t k = 0; k < groups; ++k) {
    typename Dot::Right right[kPacks];
    for (int j = 0; j < kPacks; ++j) right[j] = Dot::right(weights + j * 4 * W);
    for (int i = 0; i < kRows; ++i) {
      const typename Dot::Left left = Dot::left(q + i * stride, plane + i * stride);
      for (int j = 0; j < kPacks; ++j) Dot::add(acc[i][j], left, right[j]);
    }
    q += 4;
    plane += 4;
    weights += b.stride;
  }
  for (int i = 0; i < kRows; ++i) {
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
template <class Dot, int kMinRows, int kMaxRows, int kMaxPacks, class... Arguments>
void tile_of(int rows, int packs, const Arguments&... arguments) noexcept {
  if constexpr (kMaxRows > kMinRows) {
    if (rows < kMaxRows) return tile_of<Dot, kMinRows, kMaxRows - 1, kMaxPacks>(rows, packs, arguments...);
  }
  if constexpr (kMaxPacks > 1) {
    if (packs < kMaxPacks) return tile_of<Dot, kMaxRows, kMaxRows, kMaxPacks - 1>(rows, packs, arguments...);
  }
  tile<Dot, kMaxRows, kMaxPacks>(arguments...);
}

}  // namespace int8_detail

/// The functions for one kind of processor.
struct Int8Kernel {
  /// Rounds rows [0, rows) of segments that stand side by side.
  void (*quantise)(std::int64_t rows, const Rows<const float>* segments, const std::int64_t* depths, int count,
                   const Int8Rows& to) noexcept;
  /// C[rows × packs·W] = or += A · one block of b; columns [first, first + depth) of A. bias: with Start::bias.
  void (*product)(int packs, Start start, std::int64_t rows, const Int8Rows& a, std::int64_t first, std::int64_t depth,
                  const std::int8_t* weights, const float* scale, const std::int32_t* minus_sums, float* c,
                  std::int64_t ldc, const float* bias) noexcept;
};

template <class Dot>
void int8_quantise(std::int64_t rows, const Rows<const float>* segments, const std::int64_t* depths, int count,
                   const Int8Rows& to) noexcept {
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
  constexpr int kStrip = Dot::kStripPacks;
  const std::int64_t groups = int8_depth(depth) / 4;
  const auto columns = [&](int pack) {
    return int8_detail::Columns{weights + std::int64_t{pack} * 4 * W, std::int64_t{packs} * 4 * W, scale + pack * W,
                                minus_sums + pack * W, bias == nullptr ? nullptr : bias + pack * W};
  };
  std::int64_t row = 0;
  // Strips of a block are read again for every few rows and stay in L1; few rows read the block once, in its order.
  for (; row + Dot::kStripRows <= rows; row += Dot::kStripRows) {
    for (int pack = 0; pack < packs; pack += kStrip) {
      int8_detail::tile_of<Dot, Dot::kStripRows, Dot::kStripRows, kStrip>(
          Dot::kStripRows, std::min(kStrip, packs - pack), start, groups, a, row, first, columns(pack),
          c + row * ldc + pack * W, ldc);
    }
  }
  while (row < rows) {
    const int some = static_cast<int>(std::min<std::int64_t>(Dot::kFullRows, rows - row));
    int8_detail::tile_of<Dot, 1, Dot::kFullRows, kPanelPacks>(some, packs, start, groups, a, row, first, columns(0),
                                                              c + row * ldc, ldc);
    row += some;
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
