/* What the integer cells calculate with: `lce_value` is one int32, or four of them in a vector register where there is
 * one. The cells are written once in these functions and the operators + − * & >>, which GCC and Clang give to both.
 *
 * LSTMCORE_EDGE_PORTABLE turns every fast path off. */
#ifndef LSTMCORE_EDGE_LANES_H
#define LSTMCORE_EDGE_LANES_H

#include "lstmcore_edge.h"

#include <string.h>

#if !defined(LSTMCORE_EDGE_PORTABLE) && defined(__GNUC__) && (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__)
#if defined(__SSE2__)
#define LCE_X86
#include <immintrin.h>
#elif defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 1)
#define LCE_MVE
#include <arm_mve.h>
#elif defined(__ARM_NEON)
#define LCE_NEON
#include <arm_neon.h>
#elif defined(__ARM_FEATURE_DSP)
#define LCE_DSP
#endif
#endif

#if defined(__GNUC__)
#define LCE_INLINE static inline __attribute__((always_inline))
#else
#define LCE_INLINE static inline
#endif

/* Right shifts of negative numbers must keep the sign, and conversion to a narrower type the low bits: C99 leaves both to
 * the compiler. */
typedef char lce_arithmetic_shifts[(((-3 >> 1) == -2) && ((int32_t)0xFFFFFFFEU == -2)) ? 1 : -1];

#if defined(LCE_X86) || defined(LCE_MVE) || defined(LCE_NEON)

#define LCE_LANES 4U
typedef int32_t lce_value __attribute__((vector_size(16)));
typedef uint32_t lce_bits __attribute__((vector_size(16)));

LCE_INLINE lce_value lce_splat(int32_t x) {
  const lce_value v = {x, x, x, x};
  return v;
}
LCE_INLINE lce_value lce_get(const int32_t *from) {
  lce_value v;
  (void)memcpy(&v, from, sizeof(v));
  return v;
}
LCE_INLINE void lce_put(int32_t *to, lce_value v) { (void)memcpy(to, &v, sizeof(v)); }

#if defined(LCE_X86)

LCE_INLINE lce_value lce_get16(const int16_t *from) {
  const __m128i packed = _mm_loadl_epi64((const __m128i *)(const void *)from);
  return (lce_value)_mm_srai_epi32(_mm_unpacklo_epi16(packed, packed), 16);
}
LCE_INLINE void lce_put16(int16_t *to, lce_value v) {
  _mm_storel_epi64((__m128i *)(void *)to, _mm_packs_epi32((__m128i)v, (__m128i)v));
}
LCE_INLINE void lce_put8(int8_t *to, lce_value v) {
  const __m128i halves = _mm_packs_epi32((__m128i)v, (__m128i)v);
  const int32_t bytes = _mm_cvtsi128_si32(_mm_packs_epi16(halves, halves));
  (void)memcpy(to, &bytes, sizeof(bytes));
}

#if defined(__SSE4_1__)
LCE_INLINE lce_value lce_min(lce_value a, lce_value b) { return (lce_value)_mm_min_epi32((__m128i)a, (__m128i)b); }
LCE_INLINE lce_value lce_max(lce_value a, lce_value b) { return (lce_value)_mm_max_epi32((__m128i)a, (__m128i)b); }
LCE_INLINE lce_value lce_high(lce_value a, lce_value b) {
  const __m128i half = _mm_set_epi32(0, INT32_MIN, 0, INT32_MIN);
  const __m128i even = _mm_mul_epi32((__m128i)a, (__m128i)b);
  const __m128i odd = _mm_mul_epi32(_mm_srli_epi64((__m128i)a, 32), _mm_srli_epi64((__m128i)b, 32));
  return (lce_value)_mm_blend_epi16(_mm_srli_epi64(_mm_add_epi64(even, half), 32), _mm_add_epi64(odd, half), 0xCC);
}
#else
LCE_INLINE lce_value lce_min(lce_value a, lce_value b) {
  const lce_value less = a < b;
  return (a & less) | (b & ~less);
}
LCE_INLINE lce_value lce_max(lce_value a, lce_value b) {
  const lce_value less = a < b;
  return (b & less) | (a & ~less);
}
LCE_INLINE lce_value lce_high(lce_value a, lce_value b) { /* unsigned products; 2^32·b too much where a < 0 */
  const __m128i half = _mm_set_epi32(0, INT32_MIN, 0, INT32_MIN);
  const __m128i even = _mm_mul_epu32((__m128i)a, (__m128i)b);
  const __m128i odd = _mm_mul_epu32(_mm_srli_epi64((__m128i)a, 32), _mm_srli_epi64((__m128i)b, 32));
  const __m128i high = _mm_and_si128(_mm_add_epi64(odd, half), _mm_set_epi32(-1, 0, -1, 0));
  return (lce_value)_mm_or_si128(_mm_srli_epi64(_mm_add_epi64(even, half), 32), high) - ((a >> 31) & b);
}
#endif

LCE_INLINE int32_t lce_pair(const uint16_t *table, int index) { /* an entry and the next one; 0 ≤ index */
  int32_t pair;
  (void)memcpy(&pair, table + (uint32_t)index, sizeof(pair));
  return pair;
}
LCE_INLINE lce_value lce_interpolate(const uint16_t *table, lce_value position, uint32_t bits) {
  const int32_t one = (int32_t)1 << bits;
  const lce_value index = position >> (int32_t)bits, fraction = position & (one - 1);
  const __m128i weights = (__m128i)(fraction * 65536 + (one - fraction)); /* of the entry and of the next one */
  const __m128i at = (__m128i)index; /* below 2^15 */
  const lce_value pairs = {lce_pair(table, _mm_extract_epi16(at, 0)), lce_pair(table, _mm_extract_epi16(at, 2)),
                           lce_pair(table, _mm_extract_epi16(at, 4)), lce_pair(table, _mm_extract_epi16(at, 6))};
  /* Entries as int16: 2^15 less than they are, and so is every weighted mean. */
  return ((lce_value)_mm_madd_epi16((__m128i)(pairs ^ (int32_t)0x80008000), weights) +
          (one * 32768 + one / 2)) >> (int32_t)bits;
}

#else

#if defined(LCE_NEON)
LCE_INLINE lce_value lce_get16(const int16_t *from) { return (lce_value)vmovl_s16(vld1_s16(from)); }
LCE_INLINE void lce_put16(int16_t *to, lce_value v) { vst1_s16(to, vmovn_s32((int32x4_t)v)); }
LCE_INLINE void lce_put8(int8_t *to, lce_value v) {
  const int16x4_t halves = vmovn_s32((int32x4_t)v);
  const int32_t bytes = vget_lane_s32(vreinterpret_s32_s8(vmovn_s16(vcombine_s16(halves, halves))), 0);
  (void)memcpy(to, &bytes, sizeof(bytes));
}
LCE_INLINE lce_value lce_min(lce_value a, lce_value b) { return (lce_value)vminq_s32((int32x4_t)a, (int32x4_t)b); }
LCE_INLINE lce_value lce_max(lce_value a, lce_value b) { return (lce_value)vmaxq_s32((int32x4_t)a, (int32x4_t)b); }
LCE_INLINE lce_value lce_high(lce_value a, lce_value b) {
  const int64x2_t low = vmull_s32(vget_low_s32((int32x4_t)a), vget_low_s32((int32x4_t)b));
  const int64x2_t high = vmull_s32(vget_high_s32((int32x4_t)a), vget_high_s32((int32x4_t)b));
  return (lce_value)vcombine_s32(vrshrn_n_s64(low, 32), vrshrn_n_s64(high, 32));
}
LCE_INLINE void lce_pair(const uint16_t *table, lce_value index, lce_value *low, lce_value *next) {
  uint32_t lane;
  for (lane = 0; lane < 4U; ++lane) {
    (*low)[lane] = table[index[lane]];
    (*next)[lane] = table[index[lane] + 1];
  }
}
#else
LCE_INLINE lce_value lce_get16(const int16_t *from) { return (lce_value)vldrhq_s32(from); }
LCE_INLINE void lce_put16(int16_t *to, lce_value v) { vstrhq_s32(to, (int32x4_t)v); }
LCE_INLINE void lce_put8(int8_t *to, lce_value v) { vstrbq_s32(to, (int32x4_t)v); }
LCE_INLINE lce_value lce_min(lce_value a, lce_value b) { return (lce_value)vminq_s32((int32x4_t)a, (int32x4_t)b); }
LCE_INLINE lce_value lce_max(lce_value a, lce_value b) { return (lce_value)vmaxq_s32((int32x4_t)a, (int32x4_t)b); }
LCE_INLINE lce_value lce_high(lce_value a, lce_value b) { return (lce_value)vrmulhq_s32((int32x4_t)a, (int32x4_t)b); }
LCE_INLINE void lce_pair(const uint16_t *table, lce_value index, lce_value *low, lce_value *next) {
  *low = (lce_value)vldrhq_gather_shifted_offset_u32(table, (uint32x4_t)index);
  *next = (lce_value)vldrhq_gather_shifted_offset_u32(table + 1, (uint32x4_t)index);
}
#endif

LCE_INLINE lce_value lce_interpolate(const uint16_t *table, lce_value position, uint32_t bits) {
  const lce_value fraction = position & lce_splat(((int32_t)1 << bits) - 1);
  lce_value low = position, next = position;
  lce_pair(table, position >> (int32_t)bits, &low, &next);
  return low + (((next - low) * fraction + lce_splat((int32_t)1 << (bits - 1U))) >> (int32_t)bits);
}
#endif

LCE_INLINE lce_value lce_left(lce_value x, uint32_t bits) { return (lce_value)((lce_bits)x << bits); }
/* −1 where x is 0, else 0. */
LCE_INLINE lce_value lce_is_zero(lce_value x) { return x == lce_splat(0); }

#else

#define LCE_LANES 1U
typedef int32_t lce_value;

LCE_INLINE lce_value lce_splat(int32_t x) { return x; }
LCE_INLINE lce_value lce_get(const int32_t *from) { return *from; }
LCE_INLINE void lce_put(int32_t *to, lce_value v) { *to = v; }
LCE_INLINE lce_value lce_get16(const int16_t *from) { return *from; }
LCE_INLINE void lce_put16(int16_t *to, lce_value v) { *to = (int16_t)v; }
LCE_INLINE void lce_put8(int8_t *to, lce_value v) { *to = (int8_t)v; }
LCE_INLINE lce_value lce_min(lce_value a, lce_value b) { return a < b ? a : b; }
LCE_INLINE lce_value lce_max(lce_value a, lce_value b) { return a > b ? a : b; }

/* a·b / 2^32, rounded half up; 0 ≤ b. */
LCE_INLINE lce_value lce_high(lce_value a, lce_value b) {
#if defined(LCE_DSP)
  int32_t result;
  __asm__("smmulr %0, %1, %2" : "=r"(result) : "r"(a), "r"(b));
  return result;
#else
  return (int32_t)(((int64_t)a * b + ((int64_t)1 << 31)) >> 32);
#endif
}

/* The table between its entries position / 2^bits and the next, rounded half up. */
LCE_INLINE lce_value lce_interpolate(const uint16_t *table, lce_value position, uint32_t bits) {
  const uint16_t *entry = table + (position >> bits);
  const int32_t low = entry[0];
  const int32_t fraction = position & (((int32_t)1 << bits) - 1);
  return low + (((entry[1] - low) * fraction + ((int32_t)1 << (bits - 1U))) >> bits);
}

LCE_INLINE lce_value lce_left(lce_value x, uint32_t bits) { return (int32_t)((uint32_t)x << bits); }
LCE_INLINE lce_value lce_is_zero(lce_value x) { return x == 0 ? -1 : 0; }

#endif

#endif
