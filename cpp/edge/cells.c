/* The integer cells: one time step each. Sources of the equations: elman: Elman (1990); lstm: Gers, Schmidhuber &
 * Cummins (2000), peepholes: Gers & Schmidhuber (2000), coupled gates: Greff et al. (2017); gru: Cho et al. (2014); slstm:
 * Beck et al. (2024).
 *
 * Units beyond H are computed like the others: their weights and biases are zero, so their h stays zero. */
#include "numbers.h"

#include <string.h>

void lstmcore_edge_elman(const lstmcore_edge_layer *layer, const lstmcore_edge_slot *slot, void *next) {
  const int relu = (layer->options & LSTMCORE_EDGE_RELU) != 0U;
  uint32_t unit, j;
  for (unit = 0; unit < layer->h_width; unit += 4U) {
    int32_t a[4];
    lce_rows(layer->matrices, unit / 4U, slot->x, a);
    for (j = 0; j < 4U; ++j) {
      if (relu) { /* unbounded: Q12, and a product of 64 bits */
        const int64_t scaled = (int64_t)(a[j] > 0 ? a[j] : 0) * layer->output_multiplier;
        const int64_t rounded = (scaled + ((int64_t)1 << (layer->output_shift - 1U))) >> layer->output_shift;
        lce_store(next, unit + j, rounded > layer->limit ? layer->limit : (int32_t)rounded, layer->limit);
      } else {
        lce_store_output(layer, next, unit + j, lce_tanh(a[j]));
      }
    }
  }
  (void)memcpy(slot->h, next, layer->h_width * lce_activation_size(layer->limit));
}

void lstmcore_edge_lstm(const lstmcore_edge_layer *layer, const lstmcore_edge_slot *slot, void *next) {
  const uint32_t coupled = (layer->options & LSTMCORE_EDGE_COUPLED) != 0U ? 1U : 0U;
  const int peepholes = (layer->options & LSTMCORE_EDGE_PEEPHOLES) != 0U;
  const uint32_t bits = layer->cell_bits, width = layer->h_width;
  const uint32_t peephole_shift = layer->peephole_bits + bits - 12U; /* from Q(peephole_bits + cell_bits) to Q12 */
  const int16_t *p = layer->peepholes;
  int16_t *c = (int16_t *)slot->cells;
  uint32_t group = 0, unit, j;
  for (unit = 0; unit < width; unit += 4U) {
    int32_t gates[4][4]; /* i, f, g, o of four units */
    for (j = coupled; j < 4U; ++j) {
      lce_rows(layer->matrices, group, slot->x, gates[j]);
      ++group;
    }
    for (j = 0; j < 4U; ++j) {
      const uint32_t u = unit + j;
      const int32_t before = c[u];
      int32_t in = gates[0][j], forget = gates[1][j], out = gates[3][j], now;
      if (peepholes) {
        forget += lce_round(p[width + u] * before, peephole_shift);
      }
      forget = lce_logistic(forget);
      if (coupled != 0U) {
        in = LCE_ONE - forget;
      } else {
        in = lce_logistic(peepholes ? in + lce_round(p[u] * before, peephole_shift) : in);
      }
      /* f·c₋ in Q(15 + bits) and i·g from Q30: at most 2^30 each, one rounding for both. */
      now = lce_round(forget * before + ((in * lce_tanh(gates[2][j])) >> (15U - bits)), 15);
      now = lce_clamp(now, INT16_MAX);
      c[u] = (int16_t)now;
      if (peepholes) {
        out += lce_round(p[2U * width + u] * now, peephole_shift);
      }
      lce_store_output(layer, next, u, lce_round(lce_logistic(out) * lce_tanh_state(now, bits), 15));
    }
  }
  (void)memcpy(slot->h, next, width * lce_activation_size(layer->limit));
}

/* (1 − z)·n + z·h₋ in Q15. */
static int32_t lce_gru_output(int32_t z, int32_t n, int32_t before) {
  return lce_clamp(lce_round((LCE_ONE - z) * lce_clamp(n, INT16_MAX) + z * before, 15), INT16_MAX);
}

void lstmcore_edge_gru(const lstmcore_edge_layer *layer, const lstmcore_edge_slot *slot, void *next) {
  int16_t *h = (int16_t *)slot->cells;
  uint32_t unit, j;
  for (unit = 0; unit < layer->h_width; unit += 4U) {
    int32_t r[4], z[4], x[4], recurrent[4];
    lce_rows(&layer->matrices[0], unit / 2U, slot->x, r);
    lce_rows(&layer->matrices[0], unit / 2U + 1U, slot->x, z);
    lce_rows(&layer->matrices[1], unit / 4U, slot->x, x);
    lce_rows(&layer->matrices[2], unit / 4U, slot->h, recurrent);
    for (j = 0; j < 4U; ++j) {
      const int64_t reset = (int64_t)lce_logistic(r[j]) * recurrent[j];
      const int32_t n = lce_tanh(x[j] + (int32_t)((reset + 16384) >> 15));
      const int32_t now = lce_gru_output(lce_logistic(z[j]), n, h[unit + j]);
      h[unit + j] = (int16_t)now;
      lce_store_output(layer, next, unit + j, now);
    }
  }
  (void)memcpy(slot->h, next, layer->h_width * lce_activation_size(layer->limit));
}

void lstmcore_edge_gru_reset_before(const lstmcore_edge_layer *layer, const lstmcore_edge_slot *slot, void *next) {
  int16_t *h = (int16_t *)slot->cells;
  uint32_t unit, j;
  for (unit = 0; unit < layer->h_width; unit += 4U) { /* every r⊙h before the first product with it */
    int32_t r[4];
    lce_rows(&layer->matrices[0], unit / 4U, slot->x, r);
    for (j = 0; j < 4U; ++j) {
      lce_store_output(layer, next, unit + j, lce_round(lce_logistic(r[j]) * h[unit + j], 15));
    }
  }
  for (unit = 0; unit < layer->h_width; unit += 4U) {
    int32_t z[4], x[4], recurrent[4];
    lce_rows(&layer->matrices[1], unit / 4U, slot->x, z);
    lce_rows(&layer->matrices[2], unit / 4U, slot->x, x);
    lce_rows(&layer->matrices[3], unit / 4U, next, recurrent);
    for (j = 0; j < 4U; ++j) { /* products above read the activations of h, not h itself */
      h[unit + j] = (int16_t)lce_gru_output(lce_logistic(z[j]), lce_tanh(x[j] + recurrent[j]), h[unit + j]);
    }
  }
  for (unit = 0; unit < layer->h_width; ++unit) {
    lce_store_output(layer, slot->h, unit, h[unit]);
  }
}

/* c, n and m stand for c·e^m and n·e^m: only their ratio and what e^m weighs against new inputs matter. n lies in [1, 2):
 * where it would leave that, c and n are halved and m grows by log 2, so 16 bits serve for any number of steps. */
void lstmcore_edge_slstm(const lstmcore_edge_layer *layer, const lstmcore_edge_slot *slot, void *next) {
  const int exponential = (layer->options & LSTMCORE_EDGE_EXPONENTIAL_FORGET) != 0U;
  const int32_t furthest = (int32_t)1 << 29;
  int16_t *c = (int16_t *)slot->cells;
  int16_t *n = c + layer->h_width;
  int32_t *m = slot->stabilisers;
  uint32_t unit, j;
  for (unit = 0; unit < layer->h_width; unit += 4U) {
    int32_t gates[4][4]; /* i, f, z, o of four units */
    for (j = 0; j < 4U; ++j) {
      lce_rows(layer->matrices, unit + j, slot->x, gates[j]);
    }
    for (j = 0; j < 4U; ++j) {
      const uint32_t u = unit + j;
      const int32_t in = gates[0][j], z = lce_tanh(gates[2][j]);
      int32_t old_weight = 0, new_weight = LCE_ONE, top = in, state, total, ratio;
      if (n[u] != 0) {
        const int32_t log_forget = exponential ? gates[1][j] : lce_log_logistic(gates[1][j]);
        const int32_t kept = lce_clamp(m[u] + log_forget, furthest);
        top = in > kept ? in : kept;
        old_weight = lce_exp(kept - top);
        new_weight = lce_exp(in - top);
      }
      state = lce_round(old_weight * c[u] + lce_round(new_weight * z, 1), 15); /* Q14 */
      total = lce_round(old_weight * n[u] + new_weight * 16384, 15);
      if (total >= LCE_ONE) {
        state = lce_round(state, 1);
        total = lce_round(total, 1);
        top += 2839; /* log 2 in Q12 */
      }
      state = lce_clamp(state, INT16_MAX);
      c[u] = (int16_t)state;
      n[u] = (int16_t)total;
      m[u] = top;
      ratio = lce_clamp((state * LCE_ONE) / total, LCE_ONE); /* |state| < 2^15 */
      lce_store_output(layer, next, u, lce_round(lce_logistic(gates[3][j]) * ratio, 15));
    }
  }
  (void)memcpy(slot->h, next, layer->h_width * lce_activation_size(layer->limit));
}
