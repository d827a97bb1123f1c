/* lstmcore edge runtime: recurrent networks in C99 for small devices.
 *
 * No heap, no libm, no global state; no floating point where a model is quantised. Weights and sizes are constants that
 * `export_c` writes beside these files; state and scratch belong to the caller. Desktop predictions of a quantised model
 * run this very code, and every path chosen at compile time (portable C, Armv7E-M DSP, Armv8.1-M MVE, NEON, SSE, AVX2)
 * gives the same bits. LSTMCORE_EDGE_PORTABLE leaves portable C alone.
 *
 * Letters: T time steps, I input features, H hidden units, D directions, L layers, K outputs.
 *
 * Numbers of a quantised model. "Qn" is an integer that stands for itself times 2^-n.
 *   activations  int8 or int16: inputs x and outputs h of layers, in [-limit, limit]. x[k] stands for
 *                centre[k] + x[k]·scale[k]; h for h·output_scale, see lstmcore_edge_layer.
 *   weights      int8 (or 4 bits), one scale a row for the whole row [W | R], so that one sum serves both.
 *   sums         int32, exact: whoever writes a model makes sure that the largest possible sum fits.
 *   gates        a sum times its row's multiplier is a pre-activation in Q12; tables with linear interpolation give
 *                Q15 in 0 … 32768 (logistic) and −32768 … 32768 (tanh).
 *   cell state   int16 in Q(cell_bits); GRU keeps h in Q15, sLSTM c and n in Q14 and m (int32) in Q12.
 *   outputs      int32 in Q16: logits of a classifier, standardised targets of a regressor.
 * A float32 model has float in all these places and the same layout.
 */
#ifndef LSTMCORE_EDGE_H
#define LSTMCORE_EDGE_H

#include <stddef.h>
#include <stdint.h>

#define LSTMCORE_EDGE_VERSION 1

#ifdef __cplusplus
extern "C" {
#endif

struct lstmcore_edge_matrix;
struct lstmcore_edge_layer;
struct lstmcore_edge_slot;

/* Sums [4·count] (int32_t, float for float32): rows 4·group … of a matrix times `activations`, plus bias. */
typedef void (*lstmcore_edge_product)(const struct lstmcore_edge_matrix *matrix, uint32_t group, uint32_t count,
                                      const void *activations, void *sums);

/* One time step of one direction of one layer: reads x and h of the slot, leaves the new h there. `next` is scratch for
 * h_width activations. */
typedef void (*lstmcore_edge_cell)(const struct lstmcore_edge_layer *layer, const struct lstmcore_edge_slot *slot,
                                   void *next);

/* A matrix in groups of four rows and blocks of four columns, padded with zeros; `weights` begins at a multiple of four bytes. Rows of a cell's gates come in the
 * order in which they are used: four units of the first gate, the same four of the second, …, the next four units.
 *   int8     weights[group][block][4 rows][4 columns], each in [−127, 127]
 *   int4     weights[group][block][8 bytes]: bytes 0-3 hold the four columns of row 0 in their low and of row 1 in their
 *            high halves, bytes 4-7 rows 2 and 3; sums come out times 16, which the exporter puts into bias and multiplier; weights in [−7, 7]
 *   sparse   int8 blocks of 4×4 that are not all zero: those of `group` are number starts[group] … starts[group + 1] − 1,
 *            and columns[number] says which block of columns it is
 *   float32  weights[group][column][4 rows]                                                                          */
typedef struct lstmcore_edge_matrix {
  lstmcore_edge_product product;
  const void *weights;
  const int32_t *bias;       /* [4·groups], in units of the sums; NULL for float32 */
  const int32_t *multiplier; /* [4·groups], in [0, 2^30): result = ((sum + bias) << shift) · multiplier / 2^32,
                                rounded; |sum| + |bias| for the largest activations < 2^31 after the shift */
  const float *float_bias;   /* [4·groups] for float32 */
  const uint32_t *starts;    /* [groups + 1] if sparse */
  const uint16_t *columns;   /* [starts[groups]] if sparse */
  uint32_t groups;
  uint32_t blocks; /* blocks of four columns */
  uint32_t shift;
} lstmcore_edge_matrix;

enum { LSTMCORE_EDGE_INT8 = 0, LSTMCORE_EDGE_INT16 = 1, LSTMCORE_EDGE_FLOAT32 = 2 }; /* kinds of activations */

enum { /* options of cells */
  LSTMCORE_EDGE_COUPLED = 1,           /* lstm: i = 1 − f (CIFG) */
  LSTMCORE_EDGE_PEEPHOLES = 2,         /* lstm */
  LSTMCORE_EDGE_RELU = 4,              /* elman; tanh otherwise */
  LSTMCORE_EDGE_EXPONENTIAL_FORGET = 8 /* slstm; logistic otherwise */
};

/* Matrices of the cells, columns [x | h] with each part padded to a multiple of four:
 *   elman             1: a
 *   lstm              1: i, f, g, o (coupled: f, g, o)
 *   gru               3: (r, z) over [x | h], n over x, n over h with bR
 *   gru_reset_before  4: r over [x | h], z over [x | h], n over x, n over r⊙h
 *   slstm             1: i, f, z, o
 * States, each of h_width: lstm c; gru h; slstm c, n and m (in `stabilisers`); elman none. float32: lstm c; slstm c, n and m,
 * all in `cells`; gru_reset_before room for the next h; elman and gru none. */
typedef struct lstmcore_edge_layer {
  lstmcore_edge_cell cell;
  const lstmcore_edge_matrix *matrices;
  const int16_t *peepholes;       /* [3·h_width]: i, f, o, in Q(peephole_bits) */
  const float *float_peepholes;   /* the same for float32 */
  const void *initial_h;          /* [h_width] activations, NULL: zeros */
  const void *initial_cells;      /* [cell_width], int16_t or float, NULL: zeros */
  const int32_t *initial_stabilisers;
  uint32_t inputs, hidden;        /* I, H */
  uint32_t x_width, h_width;      /* both rounded up to a multiple of four */
  uint32_t cell_width, stabiliser_width;
  uint32_t activations_at, cells_at, stabilisers_at; /* where the slot's parts begin in the state */
  int32_t limit;                  /* activations of h lie in [−limit, limit] */
  int32_t output_multiplier;      /* h = value (Q15) · output_multiplier / 2^output_shift; output_scale = 1 / that at 1.0 */
  uint32_t output_shift;          /* 15 for all but relu */
  uint32_t cell_bits, peephole_bits;
  uint32_t options;
} lstmcore_edge_layer;

/* What a cell works on. */
typedef struct lstmcore_edge_slot {
  void *x;              /* [x_width | h_width] activations */
  void *h;
  void *cells;          /* int16_t or float */
  int32_t *stabilisers;
} lstmcore_edge_slot;

enum { LSTMCORE_EDGE_LINEAR = 0, LSTMCORE_EDGE_RELU_DENSE = 1, LSTMCORE_EDGE_TANH = 2, LSTMCORE_EDGE_SELU = 3 };

struct lstmcore_edge_dense;
struct lstmcore_edge_model;
struct lstmcore_edge_memory;

/* from: [4·blocks] activations; to: [4·groups] activations, or [outputs] outputs of the last layer. */
typedef void (*lstmcore_edge_apply)(const struct lstmcore_edge_dense *dense, const void *from, void *to);

/* A dense layer of the head. Hidden ones: pre-activations in Q12, activations as those of a recurrent layer with
 * multiplier and shift from Q12; selu without its factor λ, which the multiplier holds (float32: with it). The last one: outputs in Q16. */
typedef struct lstmcore_edge_dense {
  lstmcore_edge_apply apply;
  lstmcore_edge_matrix matrix;
  uint32_t outputs;
  uint32_t activation;
  int32_t limit;
  int32_t output_multiplier;
  uint32_t output_shift;
} lstmcore_edge_dense;

/* Takes the outputs h of one step and direction into `pooled`, from element `at` on. */
typedef void (*lstmcore_edge_pool)(const struct lstmcore_edge_model *model, const struct lstmcore_edge_memory *memory,
                                   const void *h, uint32_t at, int first);
/* Pooled activations [pooled_width] of `steps` steps. */
typedef void (*lstmcore_edge_pooled)(const struct lstmcore_edge_model *model,
                                     const struct lstmcore_edge_memory *memory, uint32_t steps, void *to);

enum { LSTMCORE_EDGE_LAST = 0, LSTMCORE_EDGE_MEAN = 1, LSTMCORE_EDGE_MAX = 2, LSTMCORE_EDGE_NONE = 3 }; /* pooling */

typedef struct lstmcore_edge_model {
  const lstmcore_edge_layer *layers; /* [L·D]: layer 0 forward, layer 0 backward, layer 1 … */
  const lstmcore_edge_dense *dense;  /* the head: hidden layers, then outputs */
  lstmcore_edge_pool pool;           /* of mean and max, NULL otherwise */
  lstmcore_edge_pooled finish;
  const float *centre, *scale;       /* [I]: see lstmcore_edge_quantise */
  uint32_t layer_count, directions, dense_count; /* L, D */
  uint32_t inputs, outputs;          /* I, K */
  uint32_t kind, pooling;
  int32_t input_limit;
  uint32_t activation_count, cell_count, stabiliser_count; /* lengths of the state's parts */
  uint32_t pooled_width;             /* D·H of the last layer, rounded up to a multiple of four */
  uint32_t next_width;               /* the largest h_width */
  uint32_t scratch_count; /* activations of scratch: next_width or pooled_width, whichever is larger, + two hidden
                             layers of the head */
} lstmcore_edge_model;

/* The caller's memory: arrays with the lengths above. The first four are the state and outlive a step. All start at
 * multiples of four bytes. */
typedef struct lstmcore_edge_memory {
  void *activations;    /* [activation_count] */
  void *cells;          /* [cell_count] int16_t or float */
  int32_t *stabilisers; /* [stabiliser_count] */
  void *pooled;         /* [pooled_width]: mean int64_t or float, max activations; NULL otherwise */
  uint32_t *steps;      /* [1] since the last reset; NULL if pooled is */
  void *scratch;        /* [scratch_count] activations */
} lstmcore_edge_memory;

/* Cells. */
void lstmcore_edge_elman(const lstmcore_edge_layer *layer, const lstmcore_edge_slot *slot, void *next);
void lstmcore_edge_lstm(const lstmcore_edge_layer *layer, const lstmcore_edge_slot *slot, void *next);
void lstmcore_edge_gru(const lstmcore_edge_layer *layer, const lstmcore_edge_slot *slot, void *next);
void lstmcore_edge_gru_reset_before(const lstmcore_edge_layer *layer, const lstmcore_edge_slot *slot, void *next);
void lstmcore_edge_slstm(const lstmcore_edge_layer *layer, const lstmcore_edge_slot *slot, void *next);
void lstmcore_edge_elman_float(const lstmcore_edge_layer *layer, const lstmcore_edge_slot *slot, void *next);
void lstmcore_edge_lstm_float(const lstmcore_edge_layer *layer, const lstmcore_edge_slot *slot, void *next);
void lstmcore_edge_gru_float(const lstmcore_edge_layer *layer, const lstmcore_edge_slot *slot, void *next);
void lstmcore_edge_gru_reset_before_float(const lstmcore_edge_layer *layer, const lstmcore_edge_slot *slot, void *next);
void lstmcore_edge_slstm_float(const lstmcore_edge_layer *layer, const lstmcore_edge_slot *slot, void *next);

/* Products: int8 weights and int8 or int16 activations; weights of 4 bits; sparse; float32. */
void lstmcore_edge_product_int8(const lstmcore_edge_matrix *matrix, uint32_t group, uint32_t count,
                                const void *a, void *sums);
void lstmcore_edge_product_int16(const lstmcore_edge_matrix *matrix, uint32_t group, uint32_t count,
                                 const void *a, void *sums);
void lstmcore_edge_product_int8_int4(const lstmcore_edge_matrix *matrix, uint32_t group, uint32_t count,
                                     const void *a, void *sums);
void lstmcore_edge_product_int16_int4(const lstmcore_edge_matrix *matrix, uint32_t group, uint32_t count,
                                      const void *a, void *sums);
void lstmcore_edge_product_int8_sparse(const lstmcore_edge_matrix *matrix, uint32_t group, uint32_t count,
                                       const void *a, void *sums);
void lstmcore_edge_product_int16_sparse(const lstmcore_edge_matrix *matrix, uint32_t group, uint32_t count,
                                        const void *a, void *sums);
void lstmcore_edge_product_float(const lstmcore_edge_matrix *matrix, uint32_t group, uint32_t count,
                                 const void *a, void *sums);

/* Dense layers of the head: hidden, last. */
void lstmcore_edge_hidden(const lstmcore_edge_dense *dense, const void *from, void *to);
void lstmcore_edge_output(const lstmcore_edge_dense *dense, const void *from, void *to);
void lstmcore_edge_hidden_float(const lstmcore_edge_dense *dense, const void *from, void *to);
void lstmcore_edge_output_float(const lstmcore_edge_dense *dense, const void *from, void *to);

/* Pooling over time. */
void lstmcore_edge_mean(const lstmcore_edge_model *model, const lstmcore_edge_memory *memory, const void *h, uint32_t at,
                        int first);
void lstmcore_edge_max(const lstmcore_edge_model *model, const lstmcore_edge_memory *memory, const void *h, uint32_t at,
                       int first);
void lstmcore_edge_mean_float(const lstmcore_edge_model *model, const lstmcore_edge_memory *memory, const void *h,
                              uint32_t at, int first);
void lstmcore_edge_max_float(const lstmcore_edge_model *model, const lstmcore_edge_memory *memory, const void *h,
                             uint32_t at, int first);
void lstmcore_edge_mean_finish(const lstmcore_edge_model *model, const lstmcore_edge_memory *memory, uint32_t steps,
                               void *to);
void lstmcore_edge_max_finish(const lstmcore_edge_model *model, const lstmcore_edge_memory *memory, uint32_t steps,
                              void *to);
void lstmcore_edge_max_finish_float(const lstmcore_edge_model *model, const lstmcore_edge_memory *memory, uint32_t steps,
                                    void *to);
void lstmcore_edge_mean_finish_float(const lstmcore_edge_model *model, const lstmcore_edge_memory *memory,
                                     uint32_t steps, void *to);

/* Back to the initial state. Call it once before the first step. */
void lstmcore_edge_reset(const lstmcore_edge_model *model, const lstmcore_edge_memory *memory);

/* One time step of a model with one direction. x: [I] activations. out: [K] outputs (int32_t, float for float32) for the
 * sequence so far, or NULL: then only the state moves on. */
void lstmcore_edge_step(const lstmcore_edge_model *model, const lstmcore_edge_memory *memory, const void *x, void *out);

/* A whole sequence: with one direction from the state that `memory` holds, with two from the initial state. x: [steps·I], out: [K],
 * with pooling NONE [steps·K]. `buffer`, for D = 2 with L > 1 or pooling NONE: lstmcore_edge_buffer_count() activations.
 * Returns 0, or −1 if buffer_count is too small or steps is 0: nothing has been changed then. */
int lstmcore_edge_run(const lstmcore_edge_model *model, const lstmcore_edge_memory *memory, const void *x,
                      uint32_t steps, void *buffer, size_t buffer_count, void *out);
size_t lstmcore_edge_buffer_count(const lstmcore_edge_model *model, uint32_t steps);

/* Features as measured, x [I], to activations q [I]: round((x − centre)·scale), saturated; NaN becomes the smallest. For
 * float32 no rounding. The one function of a quantised model with floating point in it; a device that reads integers
 * makes its own. */
void lstmcore_edge_quantise(const lstmcore_edge_model *model, const float *x, void *q);

/* Logits in Q16 to probabilities in Q15 (of 32768); the index of the largest, the first of equals. */
void lstmcore_edge_softmax(const int32_t *logits, uint32_t count, uint16_t *probabilities);
uint32_t lstmcore_edge_argmax(const int32_t *logits, uint32_t count);
void lstmcore_edge_softmax_float(const float *logits, uint32_t count, float *probabilities);
uint32_t lstmcore_edge_argmax_float(const float *logits, uint32_t count);

#ifdef __cplusplus
}
#endif

#endif
