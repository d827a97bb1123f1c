// Minimal filtering for windows of 3 × 3 (Winograd 1980; Lavin & Gray 2016, F(4×4, 3×3)): a tile of 4 × 4 outputs takes
// 36 multiplications for each pair of channels in place of 144.
//
//   Y = Aᵀ [ (g K gᵀ) ⊙ (Bᵀ D B) ] A      D: 6 × 6 inputs, K: the window, Y: 4 × 4 outputs
//
// The product ⊙ summed over channels is 36 matrix products [tiles × channels] · [channels × columns]. The gradient of K
// is gᵀ [ Σ over tiles (Bᵀ D B) ⊙ (A dY Aᵀ) ] g. All transforms work on a pack of channels or columns.
//
// Sums are taken in another order than a direct convolution takes them, with factors up to 8: in float32 results differ
// from it by about 1e-6 of the largest term.
#pragma once

#include "kernels/image.hpp"

LSTMCORE_BEGIN_NAMESPACE

namespace winograd {

inline constexpr std::int64_t kOut = 4;     ///< pixels of a tile in either direction
inline constexpr std::int64_t kPoints = 36;

/// Bᵀ times a vector of 6.
template <class V>
inline void input_line(const V* d, V* to, std::int64_t stride) noexcept {
  using S = Scalar<V>;
  const V a = d[4] - S(4) * d[2];
  const V b = d[3] - S(4) * d[1];
  const V c = d[4] - d[2];
  const V e = S(2) * (d[3] - d[1]);
  to[0] = S(4) * d[0] - S(5) * d[2] + d[4];
  to[stride] = a + b;
  to[2 * stride] = a - b;
  to[3 * stride] = c + e;
  to[4 * stride] = c - e;
  to[5 * stride] = S(4) * d[1] - S(5) * d[3] + d[5];
}

/// Aᵀ times a vector of 6.
template <class V>
inline void output_line(const V* m, V* to, std::int64_t stride) noexcept {
  using S = Scalar<V>;
  const V a = m[1] + m[2];
  const V b = m[1] - m[2];
  const V c = m[3] + m[4];
  const V d = m[3] - m[4];
  to[0] = m[0] + a + c;
  to[stride] = b + S(2) * d;
  to[2 * stride] = a + S(4) * c;
  to[3 * stride] = b + S(8) * d + m[5];
}

/// A times a vector of 4.
template <class V>
inline void gradient_line(const V* y, V* to, std::int64_t stride) noexcept {
  using S = Scalar<V>;
  const V a = y[0] + y[2];
  const V b = y[1] + y[3];
  const V c = y[0] + S(4) * y[2];
  const V d = S(2) * y[1] + S(8) * y[3];
  to[0] = y[0];
  to[stride] = a + b;
  to[2 * stride] = a - b;
  to[3 * stride] = c + d;
  to[4 * stride] = c - d;
  to[5 * stride] = y[3];
}

/// g times a vector of 3.
template <class V>
inline void kernel_line(const V* k, V* to, std::int64_t stride) noexcept {
  using S = Scalar<V>;
  const V a = S(-1.0 / 6) * (k[0] + k[2]);
  const V b = S(1.0 / 6) * k[1];
  const V c = S(1.0 / 24) * k[0] + S(1.0 / 6) * k[2];
  const V d = S(1.0 / 12) * k[1];
  to[0] = S(0.25) * k[0];
  to[stride] = a - b;
  to[2 * stride] = a + b;
  to[3 * stride] = c + d;
  to[4 * stride] = c - d;
  to[5 * stride] = k[2];
}

/// gᵀ times a vector of 6.
template <class V>
inline void kernel_gradient_line(const V* u, V* to, std::int64_t stride) noexcept {
  using S = Scalar<V>;
  const V a = u[1] + u[2];
  const V b = u[2] - u[1];
  const V c = u[3] + u[4];
  const V d = u[3] - u[4];
  to[0] = S(0.25) * u[0] - S(1.0 / 6) * a + S(1.0 / 24) * c;
  to[stride] = S(1.0 / 6) * b + S(1.0 / 12) * d;
  to[2 * stride] = S(1.0 / 6) * (c - a) + u[5];
}

/// One tile's inputs, one pack of channels: from its first pixel (in the border) to[point · distance].
template <class T>
__attribute__((noinline)) void input_tile(const T* from, std::int64_t pixel, std::int64_t line, T* to,
                                          std::int64_t distance) noexcept {
  Pack<T> half[36];
  for (int x = 0; x < 6; ++x) {
    Pack<T> d[6];
    for (int y = 0; y < 6; ++y) d[y] = load(from + y * line + x * pixel);
    input_line(d, half + x, 6);
  }
  for (int y = 0; y < 6; ++y) {
    Pack<T> v[6];
    input_line(half + 6 * y, v, 1);
    for (int x = 0; x < 6; ++x) store(to + (6 * y + x) * distance, v[x]);
  }
}

/// One tile's gradients of outputs, as input_tile.
template <class T>
__attribute__((noinline)) void gradient_tile(const T* from, std::int64_t pixel, std::int64_t line, T* to,
                                             std::int64_t distance) noexcept {
  Pack<T> half[24];
  for (int x = 0; x < 4; ++x) {
    Pack<T> d[4];
    for (int y = 0; y < 4; ++y) d[y] = load(from + y * line + x * pixel);
    gradient_line(d, half + x, 4);
  }
  for (int y = 0; y < 6; ++y) {
    Pack<T> v[6];
    gradient_line(half + 4 * y, v, 1);
    for (int x = 0; x < 6; ++x) store(to + (6 * y + x) * distance, v[x]);
  }
}

/// One tile's outputs, one pack of columns; lines × columns of them exist. bias: one pack, with Start::bias.
template <class T>
__attribute__((noinline)) void output_tile(Start start, const T* from, std::int64_t distance, const T* bias, T* to,
                                           std::int64_t pixel, std::int64_t line, std::int64_t lines,
                                           std::int64_t columns) noexcept {
  Pack<T> half[24];
  for (int x = 0; x < 6; ++x) {
    Pack<T> m[6];
    for (int y = 0; y < 6; ++y) m[y] = load(from + (6 * y + x) * distance);
    output_line(m, half + x, 6);
  }
  const Pack<T> first = start == Start::bias ? load(bias) : Pack<T>{};
  for (std::int64_t y = 0; y < lines; ++y) {
    Pack<T> out[4];
    output_line(half + 6 * y, out, 1);
    for (std::int64_t x = 0; x < columns; ++x) {
      T* const at = to + y * line + x * pixel;
      store(at, out[x] + (start == Start::sum ? load(at) : first));
    }
  }
}

/// Weights of one pair of packs of columns: k[9] → to[point · distance].
template <class T>
inline void kernel_tile(const Pack<T>* k, T* to, std::int64_t distance) noexcept {
  Pack<T> half[18];
  for (int x = 0; x < 3; ++x) {
    const Pack<T> column[3] = {k[x], k[3 + x], k[6 + x]};
    kernel_line(column, half + x, 3);
  }
  for (int y = 0; y < 6; ++y) {
    Pack<T> u[6];
    kernel_line(half + 3 * y, u, 1);
    for (int x = 0; x < 6; ++x) store(to + (6 * y + x) * distance, u[x]);
  }
}

/// Gradient of one window from that of its 36 values, `distance` apart: to[9].
template <class T>
inline void kernel_gradient(const T* from, std::int64_t distance, T* to) noexcept {
  T half[18];
  for (int x = 0; x < 6; ++x) {
    T u[6];
    for (int y = 0; y < 6; ++y) u[y] = from[(6 * y + x) * distance];
    kernel_gradient_line(u, half + x, 6);
  }
  for (int y = 0; y < 3; ++y) kernel_gradient_line(half + 6 * y, to + 3 * y, 1);
}

}  // namespace winograd

LSTMCORE_END_NAMESPACE
