// Rows of weights as 8-bit integers with one scale each: weight = scale · integer, integers from −127 to 127.
//
// A scale has 17 significant bits, so that scale · integer is exact in float32. A row that was rounded once therefore
// gives the same integers and the same scale again: rounded weights are kept, copied and compared as float32, and
// kernels and files make their integers of them when they need them.
#pragma once

#include "base/namespace.hpp"

#include <cmath>
#include <cstdint>
#include <cstring>

LSTMCORE_BEGIN_NAMESPACE

namespace int8 {

/// 0 for a row of zeros (or below 2⁻¹⁰⁰ throughout), NaN for one that is not finite.
inline float row_scale(const float* row, std::int64_t count) noexcept {
  float largest = 0.0F;
  bool finite = true;
  for (std::int64_t k = 0; k < count; ++k) {
    const float magnitude = std::fabs(row[k]);
    finite = finite && std::isfinite(magnitude);
    if (magnitude > largest) largest = magnitude;
  }
  if (!finite) return std::nanf("");
  if (largest < 0x1p-100F) return 0.0F;
  const float scale = largest / 127.0F;
  std::uint32_t bits = 0;
  std::memcpy(&bits, &scale, sizeof bits);
  bits = (bits + 64U) & ~std::uint32_t{127};
  float rounded = 0.0F;
  std::memcpy(&rounded, &bits, sizeof rounded);
  return rounded;
}

/// Nearest integer to weight / scale, half to even; 0 for scales that are 0 or NaN.
inline std::int8_t row_integer(float weight, float scale) noexcept {
  if (!(scale > 0.0F)) return 0;
  constexpr float kAlign = 12582912.0F;  // 1.5 · 2²³: the sum has no bits after the point
  return static_cast<std::int8_t>((weight / scale + kAlign) - kAlign);
}

/// Rounds in place; a row that is not finite stays as it is.
inline void round_row(float* row, std::int64_t count) noexcept {
  const float scale = row_scale(row, count);
  if (std::isnan(scale)) return;
  for (std::int64_t k = 0; k < count; ++k) row[k] = scale * static_cast<float>(row_integer(row[k], scale));
}

}  // namespace int8

LSTMCORE_END_NAMESPACE
