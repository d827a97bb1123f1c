/* Fixed-point arithmetic of the integer cells. Everything here is exact or rounds half up, on every machine alike. */
#ifndef LSTMCORE_EDGE_NUMBERS_H
#define LSTMCORE_EDGE_NUMBERS_H

#include "lstmcore_edge.h"

/* Right shifts of negative numbers must keep the sign: C99 leaves that to the compiler. */
typedef char lce_arithmetic_shifts[((-3 >> 1) == -2) ? 1 : -1];

#define LCE_ONE 32768 /* 1 in Q15 */

static inline int32_t lce_clamp(int32_t x, int32_t limit) {
  const int32_t low = x < -limit ? -limit : x;
  return low > limit ? limit : low;
}

/* x / 2^bits, rounded half up; 1 ≤ bits ≤ 30. */
static inline int32_t lce_round(int32_t x, uint32_t bits) { return (x + ((int32_t)1 << (bits - 1U))) >> bits; }

/* (x·2^shift)·multiplier / 2^32, rounded half up. */
static inline int32_t lce_scale(int32_t x, int32_t multiplier, uint32_t shift) {
  const int64_t shifted = (int64_t)(x * ((int32_t)1 << shift));
  return (int32_t)((shifted * multiplier + ((int64_t)1 << 31)) >> 32);
}

/* Rows 4·group … of matrix·a + bias as pre-activations. */
static inline void lce_rows(const lstmcore_edge_matrix *matrix, uint32_t group, const void *a, int32_t out[4]) {
  const int32_t *bias = matrix->bias + (size_t)4 * group;
  const int32_t *multiplier = matrix->multiplier + (size_t)4 * group;
  uint32_t r;
  matrix->product(matrix, group, a, out);
  for (r = 0; r < 4U; ++r) {
    out[r] = lce_scale(out[r] + bias[r], multiplier[r], matrix->shift);
  }
}

extern const uint16_t lce_tanh_half[193];
extern const uint16_t lce_log1p_exp[193];
extern const uint16_t lce_exp2[65];

/* Interpolates a table with steps of 1/16 over [0, 12); u in Q12, 0 ≤ u < 12. */
static inline int32_t lce_table(const uint16_t *table, int32_t u) {
  const int32_t index = u >> 8;
  const int32_t low = table[index];
  return low + lce_round((table[index + 1] - low) * (u & 255), 8);
}

/* tanh(u/2) in Q15 for u ≥ 0 in Q12. */
static inline int32_t lce_tanh_of_half(int32_t u) {
  return u < 12 * 4096 ? lce_table(lce_tanh_half, u) : LCE_ONE;
}

/* logistic(x) = (1 + tanh(x/2))/2 in Q15; |x| < 2^30 in Q12. logistic(−x) is 1 − logistic(x) to the bit. */
static inline int32_t lce_logistic(int32_t x) {
  const int32_t value = (LCE_ONE + 1 + lce_tanh_of_half(x < 0 ? -x : x)) >> 1;
  return x < 0 ? LCE_ONE - value : value;
}

/* tanh(x) in Q15; |x| < 2^30 in Q12. */
static inline int32_t lce_tanh(int32_t x) {
  const int32_t value = lce_tanh_of_half(2 * (x < 0 ? -x : x));
  return x < 0 ? -value : value;
}

/* tanh of a cell state in Q(bits), 4 ≤ bits ≤ 15. */
static inline int32_t lce_tanh_state(int32_t c, uint32_t bits) {
  const int32_t value = lce_tanh_of_half(((c < 0 ? -c : c) * ((int32_t)1 << (15U - bits))) >> 2);
  return c < 0 ? -value : value;
}

/* exp(x) in Q15 for x ≤ 0 in Q12: 2^(x·log2 e), the whole part by a shift. */
static inline int32_t lce_exp(int32_t x) {
  int32_t result = 0;
  if (x > -12 * 4096) {
    const uint32_t y = ((uint32_t)(-x) * 47274U + 16384U) >> 15; /* log2 e in Q15 */
    const uint32_t whole = y >> 12, index = (y >> 6) & 63U;
    const int32_t high = lce_exp2[index];
    const int32_t value = high - lce_round((high - lce_exp2[index + 1U]) * (int32_t)(y & 63U), 6);
    result = whole == 0U ? value : lce_round(value, whole);
  }
  return result;
}

/* log logistic(x) = min(x, 0) − log(1 + exp(−|x|)) in Q12; |x| < 2^30. */
static inline int32_t lce_log_logistic(int32_t x) {
  const int32_t u = x < 0 ? -x : x;
  const int32_t tail = u < 12 * 4096 ? lce_table(lce_log1p_exp, u) : 0;
  return (x < 0 ? x : 0) - tail;
}

/* Sets activation `index` of an array of int8 (limit ≤ 127) or int16. */
static inline void lce_store(void *activations, uint32_t index, int32_t value, int32_t limit) {
  const int32_t kept = lce_clamp(value, limit);
  if (limit <= 127) {
    ((int8_t *)activations)[index] = (int8_t)kept;
  } else {
    ((int16_t *)activations)[index] = (int16_t)kept;
  }
}

static inline size_t lce_activation_size(int32_t limit) { return limit <= 127 ? sizeof(int8_t) : sizeof(int16_t); }

/* h in Q15, |h| ≤ 1, as activation of the layer. */
static inline void lce_store_output(const lstmcore_edge_layer *layer, void *to, uint32_t index, int32_t h) {
  lce_store(to, index, lce_round(h * layer->output_multiplier, 15), layer->limit);
}

#endif
