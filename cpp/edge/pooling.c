/* Pooling over time: mean and maximum of every unit of the last layer. */
#include "numbers.h"

static int32_t lce_activation(const lstmcore_edge_model *model, const void *activations, uint32_t index) {
  return model->kind == (uint32_t)LSTMCORE_EDGE_INT8 ? ((const int8_t *)activations)[index]
                                                     : ((const int16_t *)activations)[index];
}

void lstmcore_edge_mean(const lstmcore_edge_model *model, const lstmcore_edge_memory *memory, const void *h, uint32_t at,
                        int first) {
  const uint32_t hidden = model->layers[model->layer_count * model->directions - 1U].hidden;
  int64_t *sums = (int64_t *)memory->pooled + at;
  uint32_t u;
  for (u = 0; u < hidden; ++u) {
    sums[u] = (first ? 0 : sums[u]) + lce_activation(model, h, u);
  }
}

void lstmcore_edge_mean_finish(const lstmcore_edge_model *model, const lstmcore_edge_memory *memory, uint32_t steps,
                               void *to) {
  const lstmcore_edge_layer *layer = &model->layers[model->layer_count * model->directions - 1U];
  const uint32_t count = model->directions * layer->hidden;
  const int64_t *sums = (const int64_t *)memory->pooled;
  const int64_t half = (int64_t)(steps / 2U);
  uint32_t u;
  for (u = 0; u < model->pooled_width; ++u) {
    const int64_t sum = u < count ? sums[u] : 0;
    lce_store_one(to, u, (sum < 0 ? sum - half : sum + half) / (int64_t)steps, layer->limit);
  }
}

void lstmcore_edge_max(const lstmcore_edge_model *model, const lstmcore_edge_memory *memory, const void *h, uint32_t at,
                       int first) {
  const lstmcore_edge_layer *layer = &model->layers[model->layer_count * model->directions - 1U];
  uint32_t u;
  for (u = 0; u < layer->hidden; ++u) {
    const int32_t now = lce_activation(model, h, u);
    const int32_t before = first ? now : lce_activation(model, memory->pooled, at + u);
    lce_store_one(memory->pooled, at + u, now > before ? now : before, layer->limit);
  }
}

void lstmcore_edge_max_finish(const lstmcore_edge_model *model, const lstmcore_edge_memory *memory, uint32_t steps,
                              void *to) {
  const lstmcore_edge_layer *layer = &model->layers[model->layer_count * model->directions - 1U];
  const uint32_t count = model->directions * layer->hidden;
  uint32_t u;
  (void)steps;
  for (u = 0; u < model->pooled_width; ++u) {
    lce_store_one(to, u, u < count ? lce_activation(model, memory->pooled, u) : 0, layer->limit);
  }
}
