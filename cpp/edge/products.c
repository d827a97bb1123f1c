/* Rows of a matrix times activations: where the time goes. All paths form the same exact sums.
 *
 * A path (products_*.h) says how LCE_STEP blocks of four columns of one row group are multiplied:
 *   lce_weights lce_read(w, packed)            the blocks' weights; packed: of 4 bits, times 16
 *   lce_columns lce_spread(a, column, wide)    the activations from `column` on; wide: int16
 *   lce_sums    lce_add(sums, weights, columns, wide)
 * lce_read_some and lce_spread_some do so for fewer than LCE_STEP blocks, with zeros for the rest. */
#include "lanes.h"

#if defined(LCE_X86)
#include "products_x86.h"
#elif defined(LCE_MVE)
#include "products_mve.h"
#elif defined(LCE_NEON)
#include "products_neon.h"
#else
#include "products_scalar.h"
#endif

/* One row group, dense. `packed` and `wide` are constants wherever this is called. */
LCE_INLINE void lce_one_group(const unsigned char *w, uint32_t blocks, const void *a, int packed, int wide,
                              const int32_t *bias, int32_t *out) {
  const size_t bytes = packed ? 8U : 16U; /* of a block */
  lce_sums sums = lce_begin(bias);
  uint32_t b;
  for (b = 0; b + LCE_STEP <= blocks; b += LCE_STEP) {
    sums = lce_add(sums, lce_read(w, packed), lce_spread(a, 4U * b, wide), wide);
    w += bytes * LCE_STEP;
  }
#if LCE_STEP > 1
  if (b < blocks) {
    sums = lce_add(sums, lce_read_some(w, blocks - b, packed), lce_spread_some(a, 4U * b, blocks - b, wide), wide);
  }
#endif
  lce_end(out, sums);
}

#if defined(LCE_SHARE)
/* Four row groups that share what is done to the activations. */
LCE_INLINE void lce_four_groups(const unsigned char *w, uint32_t blocks, const void *a, int packed, int wide,
                                const int32_t *bias, int32_t *out) {
  const size_t bytes = packed ? 8U : 16U;
  const size_t stride = bytes * blocks;
  lce_sums s0 = lce_begin(bias), s1 = lce_begin(bias + 4), s2 = lce_begin(bias + 8), s3 = lce_begin(bias + 12);
  uint32_t b;
  for (b = 0; b + LCE_STEP <= blocks; b += LCE_STEP) {
    const lce_columns x = lce_spread(a, 4U * b, wide);
    s0 = lce_add(s0, lce_read(w, packed), x, wide);
    s1 = lce_add(s1, lce_read(w + stride, packed), x, wide);
    s2 = lce_add(s2, lce_read(w + 2U * stride, packed), x, wide);
    s3 = lce_add(s3, lce_read(w + 3U * stride, packed), x, wide);
    w += bytes * LCE_STEP;
  }
#if LCE_STEP > 1
  if (b < blocks) {
    const uint32_t left = blocks - b;
    const lce_columns x = lce_spread_some(a, 4U * b, left, wide);
    s0 = lce_add(s0, lce_read_some(w, left, packed), x, wide);
    s1 = lce_add(s1, lce_read_some(w + stride, left, packed), x, wide);
    s2 = lce_add(s2, lce_read_some(w + 2U * stride, left, packed), x, wide);
    s3 = lce_add(s3, lce_read_some(w + 3U * stride, left, packed), x, wide);
  }
#endif
  lce_end(out, s0);
  lce_end(out + 4, s1);
  lce_end(out + 8, s2);
  lce_end(out + 12, s3);
}
#endif

LCE_INLINE void lce_dense(const lstmcore_edge_matrix *matrix, uint32_t group, uint32_t count, const void *a, void *sums,
                          int packed, int wide) {
  const size_t stride = (size_t)(packed ? 8U : 16U) * matrix->blocks;
  const unsigned char *w = (const unsigned char *)matrix->weights + stride * group;
  const int32_t *bias = matrix->bias + (size_t)4 * group;
  int32_t *out = (int32_t *)sums;
  uint32_t left = count;
#if defined(LCE_SHARE)
  for (; left >= 4U; left -= 4U) {
#if defined(LCE_CHOOSE_AT_RUN_TIME)
    if (!packed && !wide && __builtin_cpu_supports("avx2")) {
      lce_four_groups_avx2(w, matrix->blocks, (const int8_t *)a, bias, out);
    } else
#endif
    {
      lce_four_groups(w, matrix->blocks, a, packed, wide, bias, out);
    }
    w += 4U * stride;
    bias += 16;
    out += 16;
  }
#endif
  for (; left > 0U; --left) {
    lce_one_group(w, matrix->blocks, a, packed, wide, bias, out);
    w += stride;
    bias += 4;
    out += 4;
  }
}

LCE_INLINE void lce_sparse(const lstmcore_edge_matrix *matrix, uint32_t group, uint32_t count, const void *a, void *sums,
                           int wide) {
  uint32_t g;
  for (g = group; g < group + count; ++g) {
    const uint32_t end = matrix->starts[g + 1U];
    lce_sums s = lce_begin(matrix->bias + (size_t)4 * g);
    uint32_t number;
    for (number = matrix->starts[g]; number < end; ++number) {
      const unsigned char *w = (const unsigned char *)matrix->weights + (size_t)16 * number;
      const uint32_t column = 4U * matrix->columns[number];
#if LCE_STEP > 1
      s = lce_add(s, lce_read_some(w, 1, 0), lce_spread_some(a, column, 1, wide), wide);
#else
      s = lce_add(s, lce_read(w, 0), lce_spread(a, column, wide), wide);
#endif
    }
    lce_end((int32_t *)sums + (size_t)4 * (g - group), s);
  }
}

void lstmcore_edge_product_int8(const lstmcore_edge_matrix *matrix, uint32_t group, uint32_t count,
                                const void *a, void *sums) {
  lce_dense(matrix, group, count, a, sums, 0, 0);
}
void lstmcore_edge_product_int16(const lstmcore_edge_matrix *matrix, uint32_t group, uint32_t count,
                                 const void *a, void *sums) {
  lce_dense(matrix, group, count, a, sums, 0, 1);
}
void lstmcore_edge_product_int8_int4(const lstmcore_edge_matrix *matrix, uint32_t group, uint32_t count,
                                     const void *a, void *sums) {
  lce_dense(matrix, group, count, a, sums, 1, 0);
}
void lstmcore_edge_product_int16_int4(const lstmcore_edge_matrix *matrix, uint32_t group, uint32_t count,
                                      const void *a, void *sums) {
  lce_dense(matrix, group, count, a, sums, 1, 1);
}
void lstmcore_edge_product_int8_sparse(const lstmcore_edge_matrix *matrix, uint32_t group, uint32_t count,
                                       const void *a, void *sums) {
  lce_sparse(matrix, group, count, a, sums, 0);
}
void lstmcore_edge_product_int16_sparse(const lstmcore_edge_matrix *matrix, uint32_t group, uint32_t count,
                                        const void *a, void *sums) {
  lce_sparse(matrix, group, count, a, sums, 1);
}
