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

/* Adds blocks `from` … `to` − 1 of one row group, dense. `packed` and `wide` are constants wherever this is called. */
LCE_INLINE lce_sums lce_over(lce_sums sums, const unsigned char *weights, uint32_t from, uint32_t to, const void *a,
                             int packed, int wide) {
  const size_t bytes = packed ? 8U : 16U; /* of a block */
  const unsigned char *w = weights + bytes * from;
  uint32_t b;
  for (b = from; b + LCE_STEP <= to; b += LCE_STEP) {
    sums = lce_add(sums, lce_read(w, packed), lce_spread(a, 4U * b, wide), wide);
    w += bytes * LCE_STEP;
  }
#if LCE_STEP > 1
  if (b < to) {
    sums = lce_add(sums, lce_read_some(w, to - b, packed), lce_spread_some(a, 4U * b, to - b, wide), wide);
  }
#endif
  return sums;
}

/* `first`: blocks that count 2^first_shift times, with the bias; 0: none. */
LCE_INLINE void lce_one_group(const unsigned char *w, uint32_t blocks, uint32_t first, uint32_t first_shift, const void *a,
                              int packed, int wide, const int32_t *bias, int32_t *out) {
  lce_sums sums = lce_begin(bias);
  if (first != 0U) {
    sums = lce_shifted(lce_over(sums, w, 0, first, a, packed, wide), first_shift);
  }
  lce_end(out, lce_over(sums, w, first, blocks, a, packed, wide));
}

#if defined(LCE_SHARE)
typedef struct lce_four_sums {
  lce_sums s0, s1, s2, s3;
} lce_four_sums;

/* The same of four row groups that share what is done to the activations. */
LCE_INLINE lce_four_sums lce_over_four(lce_four_sums sums, const unsigned char *weights, size_t stride, uint32_t from,
                                       uint32_t to, const void *a, int packed, int wide) {
  const size_t bytes = packed ? 8U : 16U;
  const unsigned char *w = weights + bytes * from;
  uint32_t b;
  for (b = from; b + LCE_STEP <= to; b += LCE_STEP) {
    const lce_columns x = lce_spread(a, 4U * b, wide);
    sums.s0 = lce_add(sums.s0, lce_read(w, packed), x, wide);
    sums.s1 = lce_add(sums.s1, lce_read(w + stride, packed), x, wide);
    sums.s2 = lce_add(sums.s2, lce_read(w + 2U * stride, packed), x, wide);
    sums.s3 = lce_add(sums.s3, lce_read(w + 3U * stride, packed), x, wide);
    w += bytes * LCE_STEP;
  }
#if LCE_STEP > 1
  if (b < to) {
    const uint32_t left = to - b;
    const lce_columns x = lce_spread_some(a, 4U * b, left, wide);
    sums.s0 = lce_add(sums.s0, lce_read_some(w, left, packed), x, wide);
    sums.s1 = lce_add(sums.s1, lce_read_some(w + stride, left, packed), x, wide);
    sums.s2 = lce_add(sums.s2, lce_read_some(w + 2U * stride, left, packed), x, wide);
    sums.s3 = lce_add(sums.s3, lce_read_some(w + 3U * stride, left, packed), x, wide);
  }
#endif
  return sums;
}

LCE_INLINE void lce_four_groups(const unsigned char *w, uint32_t blocks, uint32_t first, uint32_t first_shift,
                                const void *a, int packed, int wide, const int32_t *bias, int32_t *out) {
  const size_t stride = (size_t)(packed ? 8U : 16U) * blocks;
  lce_four_sums sums;
  sums.s0 = lce_begin(bias);
  sums.s1 = lce_begin(bias + 4);
  sums.s2 = lce_begin(bias + 8);
  sums.s3 = lce_begin(bias + 12);
  if (first != 0U) {
    sums = lce_over_four(sums, w, stride, 0, first, a, packed, wide);
    sums.s0 = lce_shifted(sums.s0, first_shift);
    sums.s1 = lce_shifted(sums.s1, first_shift);
    sums.s2 = lce_shifted(sums.s2, first_shift);
    sums.s3 = lce_shifted(sums.s3, first_shift);
  }
  sums = lce_over_four(sums, w, stride, first, blocks, a, packed, wide);
  lce_end(out, sums.s0);
  lce_end(out + 4, sums.s1);
  lce_end(out + 8, sums.s2);
  lce_end(out + 12, sums.s3);
}
#endif

LCE_INLINE void lce_dense(const lstmcore_edge_matrix *matrix, uint32_t group, uint32_t count, const void *a, void *sums,
                          int packed, int wide) {
  const size_t stride = (size_t)(packed ? 8U : 16U) * matrix->blocks;
  const unsigned char *w = (const unsigned char *)matrix->weights + stride * group;
  const int32_t *bias = matrix->bias + (size_t)4 * group;
  const uint32_t first = matrix->first_shift != 0U ? matrix->first_blocks : 0U;
  int32_t *out = (int32_t *)sums;
  uint32_t left = count;
#if defined(LCE_SHARE)
  for (; left >= 4U; left -= 4U) {
#if defined(LCE_CHOOSE_AT_RUN_TIME)
    if (!packed && !wide && __builtin_cpu_supports("avx2")) {
      lce_four_groups_avx2(w, matrix->blocks, first, matrix->first_shift, (const int8_t *)a, bias, out);
    } else
#endif
    {
      lce_four_groups(w, matrix->blocks, first, matrix->first_shift, a, packed, wide, bias, out);
    }
    w += 4U * stride;
    bias += 16;
    out += 16;
  }
#endif
  for (; left > 0U; --left) {
    lce_one_group(w, matrix->blocks, first, matrix->first_shift, a, packed, wide, bias, out);
    w += stride;
    bias += 4;
    out += 4;
  }
}

/* Blocks `number` … `to` − 1 of the list as long as their columns lie before block `end`; leaves the first beyond. */
LCE_INLINE lce_sums lce_listed(lce_sums sums, const lstmcore_edge_matrix *matrix, uint32_t *number, uint32_t to,
                               uint32_t end, const void *a, int wide) {
  uint32_t n = *number;
  for (; (n < to) && (matrix->columns[n] < end); ++n) {
    const unsigned char *w = (const unsigned char *)matrix->weights + (size_t)16 * n;
    const uint32_t column = 4U * matrix->columns[n];
#if LCE_STEP > 1
    sums = lce_add(sums, lce_read_some(w, 1, 0), lce_spread_some(a, column, 1, wide), wide);
#else
    sums = lce_add(sums, lce_read(w, 0), lce_spread(a, column, wide), wide);
#endif
  }
  *number = n;
  return sums;
}

LCE_INLINE void lce_sparse(const lstmcore_edge_matrix *matrix, uint32_t group, uint32_t count, const void *a, void *sums,
                           int wide) {
  uint32_t g;
  for (g = group; g < group + count; ++g) {
    const uint32_t end = matrix->starts[g + 1U];
    uint32_t number = matrix->starts[g];
    lce_sums s = lce_begin(matrix->bias + (size_t)4 * g);
    if (matrix->first_shift != 0U) {
      s = lce_shifted(lce_listed(s, matrix, &number, end, matrix->first_blocks, a, wide), matrix->first_shift);
    }
    lce_end((int32_t *)sums + (size_t)4 * (g - group), lce_listed(s, matrix, &number, end, matrix->blocks, a, wide));
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
