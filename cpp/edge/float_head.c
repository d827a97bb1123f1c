/* Products, pooling and head in float32. Sums run over the columns in their order, for every row alike. */
#include "float_numbers.h"

void lstmcore_edge_product_float(const lstmcore_edge_matrix *matrix, uint32_t group, uint32_t count,
                                 const void *a, void *sums) {
  const uint32_t columns = 4U * matrix->blocks;
  const float *w = (const float *)matrix->weights + (size_t)4 * columns * group;
  const float *bias = matrix->float_bias + (size_t)4 * group;
  const float *x = (const float *)a;
  float *out = (float *)sums;
  uint32_t g, k;
  for (g = 0; g < count; ++g) {
    float s0 = bias[0], s1 = bias[1], s2 = bias[2], s3 = bias[3];
    for (k = 0; k < columns; ++k) {
      s0 += lce_times(w[0], x[k]);
      s1 += lce_times(w[1], x[k]);
      s2 += lce_times(w[2], x[k]);
      s3 += lce_times(w[3], x[k]);
      w += 4;
    }
    out[0] = s0;
    out[1] = s1;
    out[2] = s2;
    out[3] = s3;
    out += 4;
    bias += 4;
  }
}

/* selu: Klambauer et al. (2017), λ = 1.0507010, λα = 1.7580993. */
static float lce_float_nonlinearity(float x, uint32_t activation) {
  float value = x;
  if (activation == (uint32_t)LSTMCORE_EDGE_TANH) {
    value = lce_float_tanh(x);
  } else if (activation == (uint32_t)LSTMCORE_EDGE_SELU) {
    value = x < 0.0F ? lce_times(1.7580993F, lce_float_expm1(x)) : lce_times(1.0507010F, x);
  } else if (activation == (uint32_t)LSTMCORE_EDGE_RELU_DENSE) {
    value = x < 0.0F ? 0.0F : x;
  } else {
    /* linear */
  }
  return value;
}

void lstmcore_edge_hidden_float(const lstmcore_edge_dense *dense, const void *from, void *to) {
  const lstmcore_edge_matrix *matrix = &dense->matrix;
  float *out = (float *)to;
  uint32_t k;
  matrix->product(matrix, 0, matrix->groups, from, to);
  for (k = 0; k < 4U * matrix->groups; ++k) {
    out[k] = lce_float_nonlinearity(out[k], dense->activation);
  }
}

void lstmcore_edge_output_float(const lstmcore_edge_dense *dense, const void *from, void *to) {
  const lstmcore_edge_matrix *matrix = &dense->matrix;
  float sums[4];
  uint32_t group;
  for (group = 0; group < matrix->groups; ++group) {
    const uint32_t left = dense->outputs - 4U * group;
    matrix->product(matrix, group, 1, from, sums);
    (void)memcpy((float *)to + (size_t)4 * group, sums, (left < 4U ? left : 4U) * sizeof(float));
  }
}

void lstmcore_edge_mean_float(const lstmcore_edge_model *model, const lstmcore_edge_memory *memory, const void *h,
                              uint32_t at, int first) {
  const uint32_t hidden = model->layers[model->layer_count * model->directions - 1U].hidden;
  float *sums = (float *)memory->pooled + at;
  uint32_t u;
  for (u = 0; u < hidden; ++u) {
    sums[u] = (first ? 0.0F : sums[u]) + ((const float *)h)[u];
  }
}

void lstmcore_edge_max_float(const lstmcore_edge_model *model, const lstmcore_edge_memory *memory, const void *h,
                             uint32_t at, int first) {
  const uint32_t hidden = model->layers[model->layer_count * model->directions - 1U].hidden;
  float *most = (float *)memory->pooled + at;
  uint32_t u;
  for (u = 0; u < hidden; ++u) {
    const float now = ((const float *)h)[u];
    most[u] = first || !(now <= most[u]) ? now : most[u];
  }
}

static void lce_float_finish(const lstmcore_edge_model *model, const lstmcore_edge_memory *memory, float divisor,
                             void *to) {
  const uint32_t hidden = model->layers[model->layer_count * model->directions - 1U].hidden;
  const float *pooled = (const float *)memory->pooled;
  uint32_t u;
  for (u = 0; u < model->pooled_width; ++u) {
    ((float *)to)[u] = u < model->directions * hidden ? pooled[u] / divisor : 0.0F;
  }
}

void lstmcore_edge_mean_finish_float(const lstmcore_edge_model *model, const lstmcore_edge_memory *memory,
                                     uint32_t steps, void *to) {
  lce_float_finish(model, memory, (float)steps, to);
}

void lstmcore_edge_max_finish_float(const lstmcore_edge_model *model, const lstmcore_edge_memory *memory, uint32_t steps,
                                    void *to) {
  (void)steps;
  lce_float_finish(model, memory, 1.0F, to);
}

uint32_t lstmcore_edge_argmax_float(const float *logits, uint32_t count) {
  uint32_t best = 0, k;
  for (k = 1; k < count; ++k) {
    if (logits[k] > logits[best]) {
      best = k;
    }
  }
  return best;
}

void lstmcore_edge_softmax_float(const float *logits, uint32_t count, float *probabilities) {
  const float top = logits[lstmcore_edge_argmax_float(logits, count)];
  float sum = 0.0F;
  uint32_t k;
  for (k = 0; k < count; ++k) {
    probabilities[k] = lce_float_exp(logits[k] - top);
    sum += probabilities[k];
  }
  for (k = 0; k < count; ++k) {
    probabilities[k] /= sum;
  }
}
