/* What follows the recurrent layers: dense layers, softmax, the largest output. */
#include "numbers.h"

#include <string.h>

/* x in Q12 through a hidden layer's nonlinearity, in Q12. selu without its factor λ, which the multiplier holds (Klambauer
 * et al. 2017: α = 1.6732632). */
static int32_t lce_nonlinearity(int32_t x, uint32_t activation) {
  int32_t value = x;
  if (activation == (uint32_t)LSTMCORE_EDGE_TANH) {
    value = lce_round(lce_tanh(x), 3);
  } else if (x < 0) {
    /* exp(x) − 1 in Q15 times α in Q13 */
    value = activation == (uint32_t)LSTMCORE_EDGE_SELU ? lce_round((lce_exp(x) - LCE_ONE) * 13707, 16) : 0;
  } else {
    /* relu and selu leave it as it is */
  }
  return value;
}

void lstmcore_edge_hidden(const lstmcore_edge_dense *dense, const void *from, void *to) {
  uint32_t group, j;
  for (group = 0; group < dense->matrix.groups; ++group) {
    int32_t x[4];
    lce_rows(&dense->matrix, group, from, x);
    for (j = 0; j < 4U; ++j) {
      const int64_t scaled = (int64_t)lce_nonlinearity(x[j], dense->activation) * dense->output_multiplier;
      const int64_t rounded = (scaled + ((int64_t)1 << (dense->output_shift - 1U))) >> dense->output_shift;
      const int64_t low = rounded < -dense->limit ? -dense->limit : rounded;
      lce_store(to, 4U * group + j, low > dense->limit ? dense->limit : (int32_t)low, dense->limit);
    }
  }
}

void lstmcore_edge_output(const lstmcore_edge_dense *dense, const void *from, void *to) {
  uint32_t group;
  for (group = 0; group < dense->matrix.groups; ++group) {
    const uint32_t left = dense->outputs - 4U * group;
    int32_t x[4];
    lce_rows(&dense->matrix, group, from, x);
    (void)memcpy((int32_t *)to + (size_t)4 * group, x, (left < 4U ? left : 4U) * sizeof(int32_t));
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
    probabilities[k] = (uint16_t)lce_exp((logits[k] - top) >> 4);
    sum += probabilities[k];
  }
  for (k = 0; k < count; ++k) {
    probabilities[k] = (uint16_t)(((uint32_t)probabilities[k] * (uint32_t)LCE_ONE + sum / 2U) / sum);
  }
}
