/* The integer cells: one time step each. Sources of the equations: elman: Elman (1990); lstm: Gers, Schmidhuber &
 * Cummins (2000), peepholes: Gers & Schmidhuber (2000), coupled gates: Greff et al. (2017); gru: Cho et al. (2014); slstm:
 * Beck et al. (2024).
 *
 * A product leaves the sums of four units in sums[0 … 3] for the first gate, [4 … 7] for the second …; LCE_LANES units at
 * a time go through a cell. Units beyond H are computed like the others: their weights and biases are zero, so their h
 * stays zero. */
#include "numbers.h"

/* Four units' sums of `count` gates, from row group `group` on. */
static void lce_gates(const lstmcore_edge_matrix *matrix, uint32_t group, uint32_t count, const void *a, int32_t *sums) {
  matrix->product(matrix, group, count, a, sums);
}

void lstmcore_edge_elman(const lstmcore_edge_layer *layer, const lstmcore_edge_slot *slot, void *next) {
  const lstmcore_edge_matrix *matrix = layer->matrices;
  int32_t sums[4];
  uint32_t unit, j;
  for (unit = 0; unit < layer->h_width; unit += 4U) {
    lce_gates(matrix, unit / 4U, 1, slot->x, sums);
    for (j = 0; j < 4U; j += LCE_LANES) {
      const lce_value a = lce_scaled(matrix, unit + j, sums + j);
      if ((layer->options & LSTMCORE_EDGE_RELU) != 0U) {
        lce_store_unbounded(next, unit + j, lce_max(a, lce_splat(0)), layer->output_multiplier, layer->output_shift,
                            layer->limit);
      } else {
        lce_store_output(layer, next, unit + j, lce_tanh(a));
      }
    }
  }
  (void)memcpy(slot->h, next, layer->h_width * lce_activation_size(layer->limit));
}

void lstmcore_edge_lstm(const lstmcore_edge_layer *layer, const lstmcore_edge_slot *slot, void *next) {
  const lstmcore_edge_matrix *matrix = layer->matrices;
  const uint32_t coupled = (layer->options & LSTMCORE_EDGE_COUPLED) != 0U ? 1U : 0U;
  const int peepholes = (layer->options & LSTMCORE_EDGE_PEEPHOLES) != 0U;
  const uint32_t bits = layer->cell_bits, width = layer->h_width;
  const uint32_t peephole_shift = layer->peephole_bits + bits - 12U; /* from Q(peephole_bits + cell_bits) to Q12 */
  const int16_t *p = layer->peepholes;
  int16_t *c = (int16_t *)slot->cells;
  int32_t sums[16]; /* i, f, g, o of four units; coupled: f, g, o from sums[4] on */
  uint32_t row = 0, unit, j;
  for (unit = 0; unit < width; unit += 4U) {
    lce_gates(matrix, row / 4U, 4U - coupled, slot->x, sums + (size_t)4 * coupled);
    for (j = 0; j < 4U; j += LCE_LANES) {
      const uint32_t u = unit + j, r = row + j - 4U * coupled;
      const lce_value before = lce_get16(c + u);
      lce_value in, forget = lce_scaled(matrix, r + 4U, sums + j + 4U), out = lce_scaled(matrix, r + 12U, sums + j + 12U);
      lce_value now = lce_tanh(lce_scaled(matrix, r + 8U, sums + j + 8U));
      if (peepholes) {
        forget += lce_round(lce_get16(p + width + u) * before, peephole_shift);
      }
      forget = lce_logistic(forget);
      if (coupled != 0U) {
        in = LCE_ONE - forget;
      } else {
        in = lce_scaled(matrix, r, sums + j);
        if (peepholes) {
          in += lce_round(lce_get16(p + u) * before, peephole_shift);
        }
        in = lce_logistic(in);
      }
      /* f·c₋ in Q(15 + bits) and i·g from Q30: at most 2^30 each, one rounding for both. */
      now = lce_round(forget * before + ((in * now) >> (int32_t)(15U - bits)), 15);
      now = lce_clamp(now, INT16_MAX);
      lce_put16(c + u, now);
      if (peepholes) {
        out += lce_round(lce_get16(p + 2U * width + u) * now, peephole_shift);
      }
      lce_store_output(layer, next, u, lce_round(lce_logistic(out) * lce_tanh_state(now, bits), 15));
    }
    row += 16U - 4U * coupled;
  }
  (void)memcpy(slot->h, next, width * lce_activation_size(layer->limit));
}

/* (1 − z)·n + z·h₋ in Q15. */
LCE_INLINE lce_value lce_gru_output(lce_value z, lce_value n, lce_value before) {
  return lce_clamp(lce_round((LCE_ONE - z) * lce_clamp(n, INT16_MAX) + z * before, 15), INT16_MAX);
}

void lstmcore_edge_gru(const lstmcore_edge_layer *layer, const lstmcore_edge_slot *slot, void *next) {
  const lstmcore_edge_matrix *m = layer->matrices;
  int16_t *h = (int16_t *)slot->cells;
  int32_t gates[8], x[4], recurrent[4]; /* gates: r, z */
  uint32_t unit, j;
  for (unit = 0; unit < layer->h_width; unit += 4U) {
    lce_gates(&m[0], unit / 2U, 2, slot->x, gates);
    lce_gates(&m[1], unit / 4U, 1, slot->x, x);
    lce_gates(&m[2], unit / 4U, 1, slot->h, recurrent);
    for (j = 0; j < 4U; j += LCE_LANES) {
      const uint32_t u = unit + j;
      const lce_value r = lce_logistic(lce_scaled(&m[0], 2U * unit + j, gates + j));
      const lce_value z = lce_logistic(lce_scaled(&m[0], 2U * unit + j + 4U, gates + j + 4U));
      /* r times a pre-activation, rounded: (r·2^15)·(4·a) / 2^32 */
      const lce_value reset = lce_high(lce_scaled(&m[2], u, recurrent + j) * 4, r * 32768);
      const lce_value n = lce_tanh(lce_scaled(&m[1], u, x + j) + reset);
      const lce_value now = lce_gru_output(z, n, lce_get16(h + u));
      lce_put16(h + u, now);
      lce_store_output(layer, next, u, now);
    }
  }
  (void)memcpy(slot->h, next, layer->h_width * lce_activation_size(layer->limit));
}

void lstmcore_edge_gru_reset_before(const lstmcore_edge_layer *layer, const lstmcore_edge_slot *slot, void *next) {
  const lstmcore_edge_matrix *m = layer->matrices;
  int16_t *h = (int16_t *)slot->cells;
  int32_t gate[4], x[4], recurrent[4]; /* gate: first r, then z */
  uint32_t unit, j;
  for (unit = 0; unit < layer->h_width; unit += 4U) { /* every r⊙h before the first product with it */
    lce_gates(&m[0], unit / 4U, 1, slot->x, gate);
    for (j = 0; j < 4U; j += LCE_LANES) {
      const lce_value r = lce_logistic(lce_scaled(&m[0], unit + j, gate + j));
      lce_store_output(layer, next, unit + j, lce_round(r * lce_get16(h + unit + j), 15));
    }
  }
  for (unit = 0; unit < layer->h_width; unit += 4U) {
    lce_gates(&m[1], unit / 4U, 1, slot->x, gate);
    lce_gates(&m[2], unit / 4U, 1, slot->x, x);
    lce_gates(&m[3], unit / 4U, 1, next, recurrent);
    for (j = 0; j < 4U; j += LCE_LANES) { /* products above read the activations of h, not h itself */
      const uint32_t u = unit + j;
      const lce_value z = lce_logistic(lce_scaled(&m[1], u, gate + j));
      const lce_value n = lce_tanh(lce_scaled(&m[2], u, x + j) + lce_scaled(&m[3], u, recurrent + j));
      lce_put16(h + u, lce_gru_output(z, n, lce_get16(h + u)));
    }
  }
  for (unit = 0; unit < layer->h_width; unit += LCE_LANES) {
    lce_store_output(layer, slot->h, unit, lce_get16(h + unit));
  }
}

/* c, n and m stand for c·e^m and n·e^m: only their ratio and what e^m weighs against new inputs matter. n lies in [1, 2):
 * where it would leave that, c and n are halved and m grows by log 2, so 16 bits serve for any number of steps. */
void lstmcore_edge_slstm(const lstmcore_edge_layer *layer, const lstmcore_edge_slot *slot, void *next) {
  const lstmcore_edge_matrix *matrix = layer->matrices;
  const int exponential = (layer->options & LSTMCORE_EDGE_EXPONENTIAL_FORGET) != 0U;
  const int32_t furthest = (int32_t)1 << 29;
  int16_t *c = (int16_t *)slot->cells;
  int16_t *n = c + layer->h_width;
  int32_t *m = slot->stabilisers;
  int32_t sums[16]; /* i, f, z, o of four units */
  uint32_t unit, j;
  for (unit = 0; unit < layer->h_width; unit += 4U) {
    lce_gates(matrix, unit, 4, slot->x, sums);
    for (j = 0; j < 4U; j += LCE_LANES) {
      const uint32_t u = unit + j, row = 4U * unit + j;
      const lce_value in = lce_scaled(matrix, row, sums + j);
      const lce_value forget = lce_scaled(matrix, row + 4U, sums + j + 4U);
      const lce_value z = lce_tanh(lce_scaled(matrix, row + 8U, sums + j + 8U));
      const lce_value weight = lce_get16(n + u), fresh = lce_is_zero(weight); /* no step yet */
      const lce_value kept = lce_clamp(lce_get(m + u) + (exponential ? forget : lce_log_logistic(forget)), furthest);
      const lce_value latest = lce_select(fresh, in, lce_max(in, kept));
      const lce_value old_weight = lce_exp(lce_min(kept - latest, lce_splat(0))) & ~fresh, new_weight = lce_exp(in - latest);
      lce_value state = lce_round(old_weight * lce_get16(c + u) + lce_round(new_weight * z, 1), 15); /* Q14 */
      lce_value total = lce_round(old_weight * weight + new_weight * 16384, 15);
      const lce_value halve = ~((total - LCE_ONE) >> 31); /* −1 where n has grown to 2 */
      state = lce_clamp(lce_select(halve, lce_round(state, 1), state), INT16_MAX);
      total = lce_select(halve, lce_round(total, 1), total);
      lce_put16(c + u, state);
      lce_put16(n + u, total);
      lce_put(m + u, latest + (halve & 2839)); /* log 2 in Q12 */
      state = lce_clamp((state * LCE_ONE) / total, LCE_ONE); /* |state| < 2^15 */
      lce_store_output(layer, next, u, lce_round(lce_logistic(lce_scaled(matrix, row + 12U, sums + j + 12U)) * state, 15));
    }
  }
  (void)memcpy(slot->h, next, layer->h_width * lce_activation_size(layer->limit));
}
