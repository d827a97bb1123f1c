/* Arithmetic of float32 models. Every operation is rounded by itself, in the order written, so that machines with and
 * without fused multiply-add agree to the bit; not so with -ffast-math, or where float is kept in wider registers (x87).
 *
 * A compiler may fuse a product and a sum (GCC does unless told otherwise): products here go through lce_times(). */
#ifndef LSTMCORE_EDGE_FLOAT_NUMBERS_H
#define LSTMCORE_EDGE_FLOAT_NUMBERS_H

#include "lanes.h"

#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__) && (__GNUC__ < 12)
#pragma GCC optimize("fp-contract=off")
#endif

LCE_INLINE float lce_times(float a, float b) {
#if defined(__GNUC__) && !defined(__clang__) && (__GNUC__ >= 12)
  return __builtin_assoc_barrier(a * b);
#else
  return a * b;
#endif
}

/* The two parts of e^x = scale·(1 + p): x = n·ln 2 + r, |r| ≤ ½ ln 2, scale = 2^n, p = e^r − 1 as a Taylor polynomial of
 * degree 7. x is taken to lie within −87 … 88; NaN stays NaN. */
LCE_INLINE float lce_float_split_exp(float x, float *p) {
  const float to_integer = 12582912.0F; /* 1.5·2^23: adding it leaves the nearest integer in the low bits */
  const float low = x < -87.0F ? -87.0F : x;
  const float kept = low > 88.0F ? 88.0F : low;
  const float shifted = lce_times(kept, 1.44269504F) + to_integer;
  const float n = shifted - to_integer;
  /* ln 2 in two parts, the first with few bits, so that n times it is exact. */
  const float r = (kept - lce_times(n, 0.693359375F)) - lce_times(n, -2.12194440e-4F);
  float tail = 1.0F / 5040.0F, scale;
  uint32_t bits;
  tail = lce_times(tail, r) + 1.0F / 720.0F;
  tail = lce_times(tail, r) + 1.0F / 120.0F;
  tail = lce_times(tail, r) + 1.0F / 24.0F;
  tail = lce_times(tail, r) + 1.0F / 6.0F;
  tail = lce_times(tail, r) + 0.5F;
  *p = lce_times(tail, lce_times(r, r)) + r;
  (void)memcpy(&bits, &shifted, sizeof(bits));
  bits = (bits + 127U) << 23;
  (void)memcpy(&scale, &bits, sizeof(scale));
  return scale;
}

LCE_INLINE float lce_float_exp(float x) {
  float p;
  const float scale = lce_float_split_exp(x, &p);
  return lce_times(scale, p) + scale;
}

/* e^x − 1, with its relative accuracy near 0. */
LCE_INLINE float lce_float_expm1(float x) {
  float p;
  const float scale = lce_float_split_exp(x, &p);
  return lce_times(scale, p) + (scale - 1.0F);
}

LCE_INLINE float lce_float_logistic(float x) { return 1.0F / (1.0F + lce_float_exp(-x)); }

LCE_INLINE float lce_float_tanh(float x) { /* tanh(9.1) rounds to 1 */
  const float low = x < -9.1F ? -9.1F : x;
  const float e = lce_float_expm1(2.0F * (low > 9.1F ? 9.1F : low));
  return e / (e + 2.0F);
}

/* log logistic(x) = min(x, 0) − log(1 + u), u = e^−|x|, with log(1 + u) = 2 atanh(u / (2 + u)) as a series to degree 15. */
LCE_INLINE float lce_float_log_logistic(float x) {
  const float u = lce_float_exp(x < 0.0F ? x : -x);
  const float q = u / (2.0F + u), s = lce_times(q, q);
  float tail = 1.0F / 15.0F;
  tail = lce_times(tail, s) + 1.0F / 13.0F;
  tail = lce_times(tail, s) + 1.0F / 11.0F;
  tail = lce_times(tail, s) + 1.0F / 9.0F;
  tail = lce_times(tail, s) + 1.0F / 7.0F;
  tail = lce_times(tail, s) + 1.0F / 5.0F;
  tail = lce_times(tail, s) + 1.0F / 3.0F;
  tail = lce_times(tail, s) + 1.0F;
  return (x < 0.0F ? x : 0.0F) - lce_times(2.0F * q, tail);
}

#endif
