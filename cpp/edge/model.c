/* Layers, directions, pooling and head put together: one step, a whole sequence. */
#include "numbers.h"

static void *lce_at(const lstmcore_edge_model *model, void *activations, size_t index) {
  return (unsigned char *)activations + (index << model->kind); /* 1, 2 or 4 bytes each */
}
static const void *lce_from(const lstmcore_edge_model *model, const void *activations, size_t index) {
  return (const unsigned char *)activations + (index << model->kind);
}
static void lce_copy(const lstmcore_edge_model *model, void *to, const void *from, uint32_t count) {
  (void)memcpy(to, from, (size_t)count << model->kind);
}

static lstmcore_edge_slot lce_slot(const lstmcore_edge_model *model, const lstmcore_edge_memory *memory,
                                   const lstmcore_edge_layer *layer) {
  const size_t cell_size = model->kind == (uint32_t)LSTMCORE_EDGE_FLOAT32 ? sizeof(float) : sizeof(int16_t);
  lstmcore_edge_slot slot;
  slot.x = lce_at(model, memory->activations, layer->activations_at);
  slot.h = lce_at(model, slot.x, layer->x_width);
  slot.cells = layer->cell_width != 0U ? (unsigned char *)memory->cells + layer->cells_at * cell_size : NULL;
  slot.stabilisers = layer->stabiliser_width != 0U ? memory->stabilisers + layer->stabilisers_at : NULL;
  return slot;
}

void lstmcore_edge_reset(const lstmcore_edge_model *model, const lstmcore_edge_memory *memory) {
  const size_t cell_size = model->kind == (uint32_t)LSTMCORE_EDGE_FLOAT32 ? sizeof(float) : sizeof(int16_t);
  uint32_t l;
  for (l = 0; l < model->layer_count * model->directions; ++l) {
    const lstmcore_edge_layer *layer = &model->layers[l];
    const lstmcore_edge_slot slot = lce_slot(model, memory, layer);
    /* All bytes zero is 0 for float as well (IEEE 754). */
    (void)memset(slot.x, 0, (size_t)(layer->x_width + layer->h_width) << model->kind);
    if (layer->initial_h != NULL) {
      lce_copy(model, slot.h, layer->initial_h, layer->h_width);
    }
    if (layer->cell_width != 0U) {
      if (layer->initial_cells != NULL) {
        (void)memcpy(slot.cells, layer->initial_cells, layer->cell_width * cell_size);
      } else {
        (void)memset(slot.cells, 0, layer->cell_width * cell_size);
      }
    }
    if (layer->stabiliser_width != 0U) {
      if (layer->initial_stabilisers != NULL) {
        (void)memcpy(slot.stabilisers, layer->initial_stabilisers, layer->stabiliser_width * sizeof(int32_t));
      } else {
        (void)memset(slot.stabilisers, 0, layer->stabiliser_width * sizeof(int32_t));
      }
    }
  }
  if (memory->steps != NULL) {
    *memory->steps = 0;
  }
}

/* The head on pooled activations; the second part of scratch takes its hidden layers in turn. */
static void lce_head(const lstmcore_edge_model *model, const lstmcore_edge_memory *memory, const void *pooled, void *out) {
  const uint32_t begin = model->next_width > model->pooled_width ? model->next_width : model->pooled_width;
  const void *from = pooled;
  uint32_t at = begin, l;
  for (l = 0; l + 1U < model->dense_count; ++l) {
    const lstmcore_edge_dense *dense = &model->dense[l];
    void *to = lce_at(model, memory->scratch, at);
    dense->apply(dense, from, to);
    from = to;
    at = at == begin ? begin + 4U * dense->matrix.groups : begin;
  }
  model->dense[l].apply(&model->dense[l], from, out);
}

static void lce_pooled_head(const lstmcore_edge_model *model, const lstmcore_edge_memory *memory, uint32_t steps,
                            const void *h, void *out) {
  if (model->finish != NULL) {
    model->finish(model, memory, steps, memory->scratch);
    lce_head(model, memory, memory->scratch, out);
  } else {
    lce_head(model, memory, h, out);
  }
}

void lstmcore_edge_step(const lstmcore_edge_model *model, const lstmcore_edge_memory *memory, const void *x, void *out) {
  const void *from = x;
  uint32_t count = model->inputs, l;
  for (l = 0; l < model->layer_count; ++l) {
    const lstmcore_edge_layer *layer = &model->layers[l];
    const lstmcore_edge_slot slot = lce_slot(model, memory, layer);
    lce_copy(model, slot.x, from, count);
    layer->cell(layer, &slot, memory->scratch);
    from = slot.h;
    count = layer->hidden;
  }
  if (memory->steps != NULL) {
    model->pool(model, memory, from, 0, *memory->steps == 0U);
    *memory->steps += *memory->steps < UINT32_MAX ? 1U : 0U;
  }
  if (out != NULL) {
    lce_pooled_head(model, memory, memory->steps != NULL ? *memory->steps : 0U, from, out);
  }
}

size_t lstmcore_edge_buffer_count(const lstmcore_edge_model *model, uint32_t steps) {
  const uint32_t kept = model->layer_count - 1U + (model->pooling == (uint32_t)LSTMCORE_EDGE_NONE ? 1U : 0U);
  return model->directions == 1U ? 0U : (size_t)(kept < 2U ? kept : 2U) * steps * model->pooled_width;
}

/* One direction of a layer over a whole sequence; at every step `width` activations of x, h to `outputs` if that is not
 * NULL, into the pooling if it is the last layer's. */
static void lce_sweep(const lstmcore_edge_model *model, const lstmcore_edge_memory *memory, uint32_t number,
                      const void *x, uint32_t inputs, uint32_t stride, uint32_t steps, void *outputs) {
  const lstmcore_edge_layer *layer = &model->layers[number];
  const lstmcore_edge_slot slot = lce_slot(model, memory, layer);
  const uint32_t at = (number & 1U) * layer->hidden;
  const int last = number / 2U + 1U == model->layer_count;
  uint32_t step;
  for (step = 0; step < steps; ++step) {
    const uint32_t t = (number & 1U) != 0U ? steps - 1U - step : step;
    lce_copy(model, slot.x, lce_from(model, x, (size_t)t * stride), inputs);
    layer->cell(layer, &slot, memory->scratch);
    if (outputs != NULL) {
      lce_copy(model, lce_at(model, outputs, (size_t)t * model->pooled_width + at), slot.h, layer->hidden);
    }
    if (last && (model->pool != NULL)) {
      model->pool(model, memory, slot.h, at, step == 0U);
    }
  }
}

static void lce_run_both(const lstmcore_edge_model *model, const lstmcore_edge_memory *memory, const void *x,
                         uint32_t steps, void *buffer, void *out) {
  const size_t half = (size_t)steps * model->pooled_width;
  const int every = model->pooling == (uint32_t)LSTMCORE_EDGE_NONE;
  const void *from = x;
  uint32_t inputs = model->inputs, stride = model->inputs, l, d, t;
  lstmcore_edge_reset(model, memory);
  for (l = 0; l < model->layer_count; ++l) {
    const int keep = (l + 1U < model->layer_count) || every;
    void *to = keep ? lce_at(model, buffer, (l & 1U) * half) : NULL;
    for (d = 0; d < 2U; ++d) {
      lce_sweep(model, memory, 2U * l + d, from, inputs, stride, steps, to);
    }
    from = to;
    inputs = 2U * model->layers[2U * l].hidden;
    stride = model->pooled_width;
  }
  if (every) {
    for (t = 0; t < steps; ++t) { /* what pads a row of the buffer to a multiple of four may be anything */
      (void)memset(memory->scratch, 0, (size_t)model->pooled_width << model->kind);
      lce_copy(model, memory->scratch, lce_from(model, from, (size_t)t * stride), inputs);
      lce_head(model, memory, memory->scratch, (int32_t *)out + (size_t)t * model->outputs);
    }
  } else if (model->finish != NULL) {
    lce_pooled_head(model, memory, steps, NULL, out);
  } else {
    (void)memset(memory->scratch, 0, (size_t)model->pooled_width << model->kind);
    for (d = 0; d < 2U; ++d) {
      const lstmcore_edge_layer *layer = &model->layers[2U * (model->layer_count - 1U) + d];
      const lstmcore_edge_slot slot = lce_slot(model, memory, layer);
      lce_copy(model, lce_at(model, memory->scratch, d * layer->hidden), slot.h, layer->hidden);
    }
    lce_head(model, memory, memory->scratch, out);
  }
}

int lstmcore_edge_run(const lstmcore_edge_model *model, const lstmcore_edge_memory *memory, const void *x,
                      uint32_t steps, void *buffer, size_t buffer_count, void *out) {
  int failed = 0;
  if ((steps == 0U) || (buffer_count < lstmcore_edge_buffer_count(model, steps))) {
    failed = -1;
  } else if (model->directions == 2U) {
    lce_run_both(model, memory, x, steps, buffer, out);
  } else {
    const int every = model->pooling == (uint32_t)LSTMCORE_EDGE_NONE;
    uint32_t t;
    for (t = 0; t < steps; ++t) {
      /* Outputs are four bytes each: int32_t or float. */
      void *to = (unsigned char *)out + (every ? (size_t)4 * t * model->outputs : 0U);
      lstmcore_edge_step(model, memory, lce_from(model, x, (size_t)t * model->inputs),
                         every || (t + 1U == steps) ? to : NULL);
    }
  }
  return failed;
}

void lstmcore_edge_quantise(const lstmcore_edge_model *model, const float *x, void *q) {
  uint32_t k;
  for (k = 0; k < model->inputs; ++k) {
    /* A difference, then a product: there is nothing that a compiler could fuse into another rounding. */
    const float scaled = (x[k] - model->centre[k]) * model->scale[k];
    if (model->kind == (uint32_t)LSTMCORE_EDGE_FLOAT32) {
      ((float *)q)[k] = scaled;
    } else {
      const float doubled = scaled + scaled;
      int32_t value = -2 * model->input_limit;
      if (doubled >= 65536.0F) {
        value = 65536;
      } else if (doubled > -65536.0F) {
        value = (int32_t)doubled; /* towards zero */
      } else {
        /* the smallest, for NaN as well */
      }
      lce_store_one(q, k, (value + (value < 0 ? -1 : 1)) / 2, model->input_limit); /* halves away from zero */
    }
  }
}
