// Elementary functions and activations for packs and scalars: value, and derivative written from the value.
//
// exp is 2ⁿ·e^r with x = n·ln 2 + r, |r| ≤ ½ ln 2, and e^r − 1 as a Taylor polynomial whose remainder is below half an
// ulp (degree 7 in float, 13 in double). tanh goes through exp(2x) − 1, so that small arguments keep their relative
// accuracy. Largest errors found by cpp/tests/test_math.cpp: exp 1 ulp, logistic 2 ulp, tanh 3 ulp.
#pragma once

#include "math/pack.hpp"

#include <cmath>

LSTMCORE_BEGIN_NAMESPACE

namespace math {

template <class T>
struct ExpConstants;

template <>
struct ExpConstants<float> {
  using Bits = std::int32_t;
  static constexpr int kDegree = 7;
  static constexpr int kMantissaBits = 23;
  static constexpr int kExponentBias = 127;
  static constexpr float kRound = 12582912.0F;  // 1.5·2²³: adding it leaves the nearest integer in the low bits
  static constexpr float kLog2E = 1.44269504F;
  static constexpr float kLn2High = 0.693359375F;  // few bits, so that n·kLn2High is exact
  static constexpr float kLn2Low = -2.12194440e-4F;
  static constexpr float kLowest = -87.0F;
  static constexpr float kHighest = 88.0F;
  static constexpr float kTanhSaturates = 9.1F;  // tanh(9.1) rounds to 1
};

template <>
struct ExpConstants<double> {
  using Bits = std::int64_t;
  static constexpr int kDegree = 13;
  static constexpr int kMantissaBits = 52;
  static constexpr int kExponentBias = 1023;
  static constexpr double kRound = 6755399441055744.0;  // 1.5·2⁵²
  static constexpr double kLog2E = 1.4426950408889634;
  static constexpr double kLn2High = 6.93147180369123816490e-01;
  static constexpr double kLn2Low = 1.90821492927058770002e-10;
  static constexpr double kLowest = -708.0;
  static constexpr double kHighest = 709.0;
  static constexpr double kTanhSaturates = 19.1;
};

constexpr double inverse_factorial(int n) { return n <= 1 ? 1.0 : inverse_factorial(n - 1) / n; }

/// NaN comes through.
template <class V>
inline V clamp(V x, V low, V high) noexcept {
  return smaller(high, larger(low, x));
}

/// 2ⁿ from the low bits of n + kRound.
template <class T>
inline T power_of_two(T shifted) noexcept {
  using C = ExpConstants<T>;
  using U = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
  U bits;
  __builtin_memcpy(&bits, &shifted, sizeof(bits));
  bits = (bits + static_cast<U>(C::kExponentBias)) << C::kMantissaBits;
  T result;
  __builtin_memcpy(&result, &bits, sizeof(result));
  return result;
}
inline Pack<float> power_of_two(Pack<float> shifted) noexcept {
  using C = ExpConstants<float>;
  using Integer = PackTypes<float>::Integer;
  return reinterpret_cast<Pack<float>>((reinterpret_cast<Integer>(shifted) + C::kExponentBias) << C::kMantissaBits);
}
inline Pack<double> power_of_two(Pack<double> shifted) noexcept {
  using C = ExpConstants<double>;
  using Integer = PackTypes<double>::Integer;
  return reinterpret_cast<Pack<double>>((reinterpret_cast<Integer>(shifted) + C::kExponentBias) << C::kMantissaBits);
}

/// Σ_{k ≥ kTerm} r^(k − kTerm) / k!, in pairs of terms: as many multiply-adds as term by term, and half as many that
/// wait for the one before (a step of 8 units took 7% longer so).
template <class V, int kTerm>
inline V taylor_tail(V r, V square) noexcept {
  const V pair = constant<V>(inverse_factorial(kTerm + 1)) * r + constant<V>(inverse_factorial(kTerm));
  if constexpr (kTerm + 1 == ExpConstants<Scalar<V>>::kDegree) {
    return pair;
  } else {
    return taylor_tail<V, kTerm + 2>(r, square) * square + pair;
  }
}

/// The two halves of e^x = scale·(1 + p): scale = 2ⁿ, p = e^r − 1. x must lie within [kLowest, kHighest].
template <class V>
inline void split_exp(V x, V& scale, V& p) noexcept {
  using C = ExpConstants<Scalar<V>>;
  const V shifted = x * constant<V>(C::kLog2E) + constant<V>(C::kRound);
  const V n = shifted - constant<V>(C::kRound);
  const V r = (x - n * constant<V>(C::kLn2High)) - n * constant<V>(C::kLn2Low);
  const V square = r * r;
  p = taylor_tail<V, 2>(r, square) * square + r;
  scale = power_of_two(shifted);
}

template <class V>
inline V exp(V x) noexcept {
  using C = ExpConstants<Scalar<V>>;
  V scale;
  V p;
  split_exp(clamp(x, constant<V>(C::kLowest), constant<V>(C::kHighest)), scale, p);
  return scale * p + scale;
}

/// 1 / (1 + e^−x).
template <class V>
inline V logistic(V x) noexcept {
  return constant<V>(1) / (constant<V>(1) + math::exp(-x));
}
template <class V>
inline V logistic_derivative(V value) noexcept {
  return value * (constant<V>(1) - value);
}

template <class V>
inline V tanh(V x) noexcept {
  using C = ExpConstants<Scalar<V>>;
  const V limit = constant<V>(C::kTanhSaturates);
  V scale;
  V p;
  split_exp(constant<V>(2) * clamp(x, -limit, limit), scale, p);
  const V expm1 = scale * p + (scale - constant<V>(1));
  return expm1 / (expm1 + constant<V>(2));
}
template <class V>
inline V tanh_derivative(V value) noexcept {
  return constant<V>(1) - value * value;
}

/// Σ_{k ≥ kTerm} s^(k − kTerm) / (2k + 1), the tail of atanh(√s)/√s.
template <class V, int kTerm>
inline V atanh_tail(V s) noexcept {
  constexpr int kLast = sizeof(Scalar<V>) == 4 ? 7 : 17;  // s ≤ 1/9: the remainder is below half an ulp
  if constexpr (kTerm == kLast) {
    return constant<V>(1.0 / (2 * kTerm + 1));
  } else {
    return atanh_tail<V, kTerm + 1>(s) * s + constant<V>(1.0 / (2 * kTerm + 1));
  }
}

/// log(1 + u) for 0 ≤ u ≤ 1, as 2·atanh(u / (2 + u)).
template <class V>
inline V log1p_unit(V u) noexcept {
  const V q = u / (constant<V>(2) + u);
  return constant<V>(2) * q * atanh_tail<V, 0>(q * q);
}

/// log of the logistic function: min(x, 0) − log(1 + e^−|x|).
template <class V>
inline V log_logistic(V x) noexcept {
  const V negative = x < V{} ? x : -x;  // −|x|
  return (x < V{} ? x : V{}) - log1p_unit(math::exp(negative));
}

/// max(x, 0); NaN stays NaN.
template <class V>
inline V relu(V x) noexcept {
  return x < V{} ? V{} : x;
}
template <class V>
inline V relu_derivative(V value) noexcept {
  return value > V{} ? constant<V>(1) : V{};
}

}  // namespace math

LSTMCORE_END_NAMESPACE
