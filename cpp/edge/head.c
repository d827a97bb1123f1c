/* What follows the recurrent layers: dense layers, softmax, the largest output. */
#include "numbers.h"

/* x in Q12 through a hidden layer's nonlinearity, in Q12. selu without its factor λ, which the multiplier holds (Klambauer
 * et al. 2017: α = 1.6732632). */
LCE_INLINE lce_value lce_nonlinearity(lce_value x, uint32_t activation) {
  lce_value value = x;
  if (activation == (uint32_t)LSTMCORE_EDGE_TANH) {
    value = lce_round(lce_tanh(x), 3);
  } else if (activation == (uint32_t)LSTMCORE_EDGE_SELU) {
    /* exp(x) − 1 in Q15 times α in Q13; 0 for x ≥ 0 */
    value = lce_max(x, lce_splat(0)) + lce_round((lce_exp(lce_min(x, lce_splat(0))) - LCE_ONE) * 13707, 16);
  } else if (activation == (uint32_t)LSTMCORE_EDGE_RELU_DENSE) {
    value = lce_max(x, lce_splat(0));
  } else {
    /* linear */
  }
  return value;
}

void lstmcore_edge_hidden(const lstmcore_edge_dense *dense, const void *from, void *to) {
  const lstmcore_edge_matrix *matrix = &dense->matrix;
  int32_t sums[4];
  uint32_t group, j;
  for (group = 0; group < matrix->groups; ++group) {
    matrix->product(matrix, group, 1, from, sums);
    for (j = 0; j < 4U; j += LCE_LANES) {
      const lce_value x = lce_nonlinearity(lce_scaled(matrix, 4U * group + j, sums + j), dense->activation);
      lce_store_unbounded(to, 4U * group + j, x, dense->output_multiplier, dense->output_shift, dense->limit);
    }
  }
}

void lstmcore_edge_output(const lstmcore_edge_dense *dense, const void *from, void *to) {
  const lstmcore_edge_matrix *matrix = &dense->matrix;
  int32_t sums[4];
  uint32_t group, j;
  for (group = 0; group < matrix->groups; ++group) {
    const uint32_t left = dense->outputs - 4U * group;
    matrix->product(matrix, group, 1, from, sums);
    for (j = 0; j < 4U; j += LCE_LANES) {
      lce_put(sums + j, lce_scaled(matrix, 4U * group + j, sums + j));
    }
    (void)memcpy((int32_t *)to + (size_t)4 * group, sums, (left < 4U ? left : 4U) * sizeof(int32_t));
  }
}

uint32_t lstmcore_edge_argmax(const int32_t *logits, uint32_t count) {
  uint32_t best = 0, k;
  for (k = 1; k < count; ++k) {
    if (logits[k] > logits[best]) {
      best = k;
    }
  }
  return best;
}

void lstmcore_edge_softmax(const int32_t *logits, uint32_t count, uint16_t *probabilities) {
  const int32_t top = logits[lstmcore_edge_argmax(logits, count)];
  uint32_t sum = 0, k;
  for (k = 0; k < count; ++k) { /* |logits| < 2^29: differences stay below 2^30 */
    int32_t weight[LCE_LANES];
    lce_put(weight, lce_exp(lce_splat((logits[k] - top) >> 4)));
    probabilities[k] = (uint16_t)weight[0];
    sum += (uint32_t)weight[0];
  }
  for (k = 0; k < count; ++k) {
    probabilities[k] = (uint16_t)(((uint32_t)probabilities[k] * (uint32_t)LCE_ONE + sum / 2U) / sum);
  }
}
