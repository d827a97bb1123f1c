// A SIMD pack: W lanes of one scalar in one register of the instruction set that this file is compiled for.
//
// Packs are the compiler's own vector types (GCC and Clang share them on x86-64 and AArch64), not Eigen::Array: they
// stay in registers across the register tiles of kernels/, they reach double precision where Eigen 3.4 falls back to
// scalar tanh, and one polynomial gives the same activations whatever Eigen version is found.
#pragma once

#include "base/namespace.hpp"

#include <cstddef>
#include <cstdint>

/// Before a loop of a few turns over packs that are to stay in registers: unrolled before anything else looks at it.
#if defined(__clang__)
#define LSTMCORE_UNROLL _Pragma("clang loop unroll(full)")
#else
#define LSTMCORE_UNROLL _Pragma("GCC unroll 16")
#endif

LSTMCORE_BEGIN_NAMESPACE

#if defined(__AVX512F__)
inline constexpr int kPackBytes = 64;
inline constexpr int kPackRegisters = 32;
#elif defined(__AVX__)
inline constexpr int kPackBytes = 32;
inline constexpr int kPackRegisters = 16;
#elif defined(__aarch64__)
inline constexpr int kPackBytes = 16;
inline constexpr int kPackRegisters = 32;
#else
inline constexpr int kPackBytes = 16;
inline constexpr int kPackRegisters = 16;
#endif

template <class T>
struct PackTypes;

template <>
struct PackTypes<float> {
  typedef float Pack __attribute__((vector_size(kPackBytes)));
  typedef std::int32_t Integer __attribute__((vector_size(kPackBytes)));
};

template <>
struct PackTypes<double> {
  typedef double Pack __attribute__((vector_size(kPackBytes)));
  typedef std::int64_t Integer __attribute__((vector_size(kPackBytes)));
};

template <class T>
using Pack = typename PackTypes<T>::Pack;

/// Lanes of a pack.
template <class T>
inline constexpr int kLanes = kPackBytes / static_cast<int>(sizeof(T));

/// Scalar of a value type: of a pack its lane, of a scalar itself.
template <class V>
struct ScalarOf {
  using type = V;
};
template <>
struct ScalarOf<Pack<float>> {
  using type = float;
};
template <>
struct ScalarOf<Pack<double>> {
  using type = double;
};
template <class V>
using Scalar = typename ScalarOf<V>::type;

/// Unaligned load and store; memcpy compiles to one instruction and breaks no aliasing rule.
template <class T>
inline Pack<T> load(const T* p) noexcept {
  Pack<T> v;
  __builtin_memcpy(&v, p, sizeof(v));
  return v;
}
template <class T>
inline void store(T* p, Pack<T> v) noexcept {
  __builtin_memcpy(p, &v, sizeof(v));
}
template <class T>
inline Pack<T> broadcast(T s) noexcept {
  return s - Pack<T>{};  // s − 0 keeps the sign of −0; the compiler emits one broadcast
}

/// a > b ? a : b, and b where one is NaN. One instruction of x86, which compilers do not find where one is a constant.
template <class V>
inline V larger(V a, V b) noexcept {
  return a > b ? a : b;
}
/// a < b ? a : b, and b where one is NaN.
template <class V>
inline V smaller(V a, V b) noexcept {
  return a < b ? a : b;
}
#if defined(__AVX__) && !defined(__AVX512F__)
inline Pack<float> larger(Pack<float> a, Pack<float> b) noexcept { return __builtin_ia32_maxps256(a, b); }
inline Pack<float> smaller(Pack<float> a, Pack<float> b) noexcept { return __builtin_ia32_minps256(a, b); }
inline Pack<double> larger(Pack<double> a, Pack<double> b) noexcept { return __builtin_ia32_maxpd256(a, b); }
inline Pack<double> smaller(Pack<double> a, Pack<double> b) noexcept { return __builtin_ia32_minpd256(a, b); }
#endif

/// A constant of V's scalar type, whether V is a pack or a scalar.
template <class V>
inline V constant(double value) noexcept {
  return static_cast<Scalar<V>>(value) - V{};
}

LSTMCORE_END_NAMESPACE
