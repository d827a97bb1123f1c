/* The cells in float32; sources as in cells.c. A product leaves the pre-activations of four units, gate by gate. */
#include "float_numbers.h"

static void lce_float_copy(void *to, const void *from, uint32_t count) {
  (void)memcpy(to, from, (size_t)count * sizeof(float));
}

void lstmcore_edge_elman_float(const lstmcore_edge_layer *layer, const lstmcore_edge_slot *slot, void *next) {
  const int relu = (layer->options & LSTMCORE_EDGE_RELU) != 0U;
  float *to = (float *)next;
  float a[4];
  uint32_t unit, j;
  for (unit = 0; unit < layer->h_width; unit += 4U) {
    layer->matrices->product(layer->matrices, unit / 4U, 1, slot->x, a);
    for (j = 0; j < 4U; ++j) {
      const float positive = a[j] < 0.0F ? 0.0F : a[j];
      to[unit + j] = relu ? positive : lce_float_tanh(a[j]);
    }
  }
  lce_float_copy(slot->h, next, layer->h_width);
}

void lstmcore_edge_lstm_float(const lstmcore_edge_layer *layer, const lstmcore_edge_slot *slot, void *next) {
  const uint32_t coupled = (layer->options & LSTMCORE_EDGE_COUPLED) != 0U ? 1U : 0U;
  const int peepholes = (layer->options & LSTMCORE_EDGE_PEEPHOLES) != 0U;
  const uint32_t width = layer->h_width;
  const float *p = layer->float_peepholes;
  float *c = (float *)slot->cells, *to = (float *)next;
  float gates[16] = {0.0F}; /* i, f, g, o of four units */
  uint32_t group = 0, unit, j;
  for (unit = 0; unit < width; unit += 4U) {
    layer->matrices->product(layer->matrices, group, 4U - coupled, slot->x, gates + (size_t)4 * coupled);
    for (j = 0; j < 4U; ++j) {
      const uint32_t u = unit + j;
      const float before = c[u];
      float in = gates[j], forget = gates[j + 4U], out = gates[j + 12U], now;
      if (peepholes) {
        forget += lce_times(p[width + u], before);
      }
      forget = lce_float_logistic(forget);
      if (coupled != 0U) {
        in = 1.0F - forget;
      } else {
        in = lce_float_logistic(peepholes ? in + lce_times(p[u], before) : in);
      }
      now = lce_times(forget, before) + lce_times(in, lce_float_tanh(gates[j + 8U]));
      c[u] = now;
      if (peepholes) {
        out += lce_times(p[2U * width + u], now);
      }
      to[u] = lce_times(lce_float_logistic(out), lce_float_tanh(now));
    }
    group += 4U - coupled;
  }
  lce_float_copy(slot->h, next, width);
}

void lstmcore_edge_gru_float(const lstmcore_edge_layer *layer, const lstmcore_edge_slot *slot, void *next) {
  const lstmcore_edge_matrix *m = layer->matrices;
  const float *h = (const float *)slot->h;
  float *to = (float *)next;
  float gates[8], x[4], recurrent[4]; /* gates: r, z */
  uint32_t unit, j;
  for (unit = 0; unit < layer->h_width; unit += 4U) {
    m[0].product(&m[0], unit / 2U, 2, slot->x, gates);
    m[1].product(&m[1], unit / 4U, 1, slot->x, x);
    m[2].product(&m[2], unit / 4U, 1, slot->h, recurrent);
    for (j = 0; j < 4U; ++j) {
      const float z = lce_float_logistic(gates[j + 4U]);
      const float n = lce_float_tanh(x[j] + lce_times(lce_float_logistic(gates[j]), recurrent[j]));
      to[unit + j] = lce_times(1.0F - z, n) + lce_times(z, h[unit + j]);
    }
  }
  lce_float_copy(slot->h, next, layer->h_width);
}

void lstmcore_edge_gru_reset_before_float(const lstmcore_edge_layer *layer, const lstmcore_edge_slot *slot, void *next) {
  const lstmcore_edge_matrix *m = layer->matrices;
  float *h = (float *)slot->h, *kept = (float *)next, *now = (float *)slot->cells; /* kept: r⊙h; now: the next h */
  float gates[4], x[4], recurrent[4];                 /* gates: r, then z */
  uint32_t unit, j;
  for (unit = 0; unit < layer->h_width; unit += 4U) { /* every r⊙h before the first product with it */
    m[0].product(&m[0], unit / 4U, 1, slot->x, gates);
    for (j = 0; j < 4U; ++j) {
      kept[unit + j] = lce_times(lce_float_logistic(gates[j]), h[unit + j]);
    }
  }
  for (unit = 0; unit < layer->h_width; unit += 4U) {
    m[1].product(&m[1], unit / 4U, 1, slot->x, gates);
    m[2].product(&m[2], unit / 4U, 1, slot->x, x);
    m[3].product(&m[3], unit / 4U, 1, next, recurrent);
    for (j = 0; j < 4U; ++j) {
      const float z = lce_float_logistic(gates[j]);
      const float n = lce_float_tanh(x[j] + recurrent[j]);
      now[unit + j] = lce_times(1.0F - z, n) + lce_times(z, h[unit + j]);
    }
  }
  lce_float_copy(slot->h, now, layer->h_width);
}

void lstmcore_edge_slstm_float(const lstmcore_edge_layer *layer, const lstmcore_edge_slot *slot, void *next) {
  const int exponential = (layer->options & LSTMCORE_EDGE_EXPONENTIAL_FORGET) != 0U;
  float *c = (float *)slot->cells, *to = (float *)next;
  float *n = c + layer->h_width;
  float *m = n + layer->h_width;
  float gates[16]; /* i, f, z, o of four units */
  uint32_t unit, j;
  for (unit = 0; unit < layer->h_width; unit += 4U) {
    layer->matrices->product(layer->matrices, unit, 4, slot->x, gates);
    for (j = 0; j < 4U; ++j) {
      const uint32_t u = unit + j;
      const int fresh = n[u] == 0.0F; /* no step yet */
      const float in = gates[j], forget = gates[j + 4U];
      const float kept = m[u] + (exponential ? forget : lce_float_log_logistic(forget));
      const float top = fresh || (kept < in) ? in : kept;
      const float old_weight = fresh ? 0.0F : lce_float_exp(kept - top);
      const float new_weight = lce_float_exp(in - top);
      c[u] = lce_times(old_weight, c[u]) + lce_times(new_weight, lce_float_tanh(gates[j + 8U]));
      n[u] = lce_times(old_weight, n[u]) + new_weight;
      m[u] = top;
      to[u] = lce_times(lce_float_logistic(gates[j + 12U]), c[u] / n[u]);
    }
  }
  lce_float_copy(slot->h, next, layer->h_width);
}
