/* Fixed-point arithmetic of the integer cells. Everything here is exact or rounds half up, on every machine alike. */
#ifndef LSTMCORE_EDGE_NUMBERS_H
#define LSTMCORE_EDGE_NUMBERS_H

#include "lanes.h"

#define LCE_ONE 32768 /* 1 in Q15 */

extern const uint16_t lce_tanh_half[193];
extern const uint16_t lce_log1p_exp[193];
extern const uint16_t lce_exp2[65];

LCE_INLINE lce_value lce_clamp(lce_value x, int32_t limit) {
  return lce_min(lce_max(x, lce_splat(-limit)), lce_splat(limit));
}

/* x / 2^bits, rounded half up; 1 ≤ bits ≤ 30. */
LCE_INLINE lce_value lce_round(lce_value x, uint32_t bits) {
  return (x + lce_splat((int32_t)1 << (bits - 1U))) >> (int32_t)bits;
}

/* a where the mask is −1, b where it is 0. */
LCE_INLINE lce_value lce_select(lce_value mask, lce_value a, lce_value b) { return (a & mask) | (b & ~mask); }

/* −x where sign is −1, x where it is 0. */
LCE_INLINE lce_value lce_signed(lce_value x, lce_value sign) { return (x ^ sign) - sign; }

/* Sums of a matrix from `row` on as pre-activations in Q12; below 2^29, as sums are below 2^31 after the shift and
 * multipliers below 2^30. */
LCE_INLINE lce_value lce_scaled(const lstmcore_edge_matrix *matrix, uint32_t row, const int32_t *sums) {
  return lce_high(lce_left(lce_get(sums), matrix->shift), lce_get(matrix->multiplier + row));
}

/* tanh(u/2) in Q15 for u ≥ 0 in Q12. The table's last two entries are 1, so larger u may be clamped. */
LCE_INLINE lce_value lce_tanh_of_half(lce_value u) {
  return lce_interpolate(lce_tanh_half, lce_min(u, lce_splat(12 * 4096 - 1)), 8);
}

/* logistic(x) = (1 + tanh(x/2))/2 in Q15; |x| < 2^30 in Q12. logistic(−x) is 1 − logistic(x) to the bit. */
LCE_INLINE lce_value lce_logistic(lce_value x) {
  const lce_value sign = x >> 31;
  const lce_value value = (lce_tanh_of_half(lce_signed(x, sign)) + (LCE_ONE + 1)) >> 1;
  return lce_signed(value, sign) + (sign & LCE_ONE);
}

/* tanh(x) in Q15; |x| < 2^30 in Q12. */
LCE_INLINE lce_value lce_tanh(lce_value x) {
  const lce_value sign = x >> 31;
  return lce_signed(lce_tanh_of_half(lce_signed(x, sign) * 2), sign);
}

/* tanh of a cell state in Q(bits), 4 ≤ bits ≤ 15. */
LCE_INLINE lce_value lce_tanh_state(lce_value c, uint32_t bits) {
  const lce_value sign = c >> 31;
  return lce_signed(lce_tanh_of_half(lce_left(lce_signed(c, sign), 15U - bits) >> 2), sign);
}

/* exp(x) in Q15 for x ≤ 0 in Q12: 2^(x·log2 e), the whole part by a shift; 0 from x = −12 on. */
LCE_INLINE lce_value lce_exp(lce_value x) {
  const lce_value y = lce_round(lce_min(-x, lce_splat(12 * 4096)) * 23637, 14); /* log2 e in Q14 */
  const lce_value whole = y >> 12;
  const lce_value half = (lce_splat(1) << whole) >> 1;
  return (lce_interpolate(lce_exp2, y & 4095, 6) + half) >> whole;
}

/* log logistic(x) = min(x, 0) − log(1 + exp(−|x|)) in Q12; |x| < 2^30. The table's last two entries are 0. */
LCE_INLINE lce_value lce_log_logistic(lce_value x) {
  const lce_value sign = x >> 31;
  const lce_value u = lce_min(lce_signed(x, sign), lce_splat(12 * 4096 - 1));
  return (x & sign) - lce_interpolate(lce_log1p_exp, u, 8);
}

/* Sets activations from `index` on in an array of int8 (limit ≤ 127) or int16. */
LCE_INLINE void lce_store(void *activations, uint32_t index, lce_value value, int32_t limit) {
  const lce_value kept = lce_clamp(value, limit);
  if (limit <= 127) {
    lce_put8((int8_t *)activations + index, kept);
  } else {
    lce_put16((int16_t *)activations + index, kept);
  }
}

/* The same for one activation of an array; also a value that has 64 bits. */
static inline void lce_store_one(void *activations, uint32_t index, int64_t value, int32_t limit) {
  const int64_t low = value < -limit ? -limit : value;
  const int32_t kept = low > limit ? limit : (int32_t)low;
  if (limit <= 127) {
    ((int8_t *)activations)[index] = (int8_t)kept;
  } else {
    ((int16_t *)activations)[index] = (int16_t)kept;
  }
}

LCE_INLINE size_t lce_activation_size(int32_t limit) { return limit <= 127 ? sizeof(int8_t) : sizeof(int16_t); }

/* value·multiplier / 2^shift, rounded half up, as activations of LCE_LANES units. Products of 64 bits: value is not
 * bounded by 1. */
static inline void lce_store_unbounded(void *to, uint32_t index, lce_value value, int32_t multiplier, uint32_t shift,
                                       int32_t limit) {
  int32_t values[LCE_LANES];
  uint32_t lane;
  lce_put(values, value);
  for (lane = 0; lane < LCE_LANES; ++lane) {
    const int64_t scaled = (int64_t)values[lane] * multiplier;
    lce_store_one(to, index + lane, (scaled + ((int64_t)1 << (shift - 1U))) >> shift, limit);
  }
}

/* h in Q15, |h| ≤ 1, as activations of the layer. */
LCE_INLINE void lce_store_output(const lstmcore_edge_layer *layer, void *to, uint32_t index, lce_value h) {
  lce_store(to, index, lce_round(h * layer->output_multiplier, 15), layer->limit);
}

#endif
