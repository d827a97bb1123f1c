/* Four rows of a matrix times activations: where the time goes. All paths form the same exact sums. */
#include "numbers.h"

void lstmcore_edge_product_int8(const lstmcore_edge_matrix *matrix, uint32_t group, const void *a, void *sums) {
  const uint32_t blocks = matrix->blocks;
  const int8_t *w = (const int8_t *)matrix->weights + (size_t)16 * blocks * group;
  const int8_t *x = (const int8_t *)a;
  int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
  uint32_t b;
  for (b = 0; b < blocks; ++b) {
    s0 += w[0] * x[0] + w[1] * x[1] + w[2] * x[2] + w[3] * x[3];
    s1 += w[4] * x[0] + w[5] * x[1] + w[6] * x[2] + w[7] * x[3];
    s2 += w[8] * x[0] + w[9] * x[1] + w[10] * x[2] + w[11] * x[3];
    s3 += w[12] * x[0] + w[13] * x[1] + w[14] * x[2] + w[15] * x[3];
    w += 16;
    x += 4;
  }
  ((int32_t *)sums)[0] = s0;
  ((int32_t *)sums)[1] = s1;
  ((int32_t *)sums)[2] = s2;
  ((int32_t *)sums)[3] = s3;
}

void lstmcore_edge_product_int16(const lstmcore_edge_matrix *matrix, uint32_t group, const void *a, void *sums) {
  const uint32_t blocks = matrix->blocks;
  const int8_t *w = (const int8_t *)matrix->weights + (size_t)16 * blocks * group;
  const int16_t *x = (const int16_t *)a;
  int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
  uint32_t b;
  for (b = 0; b < blocks; ++b) {
    s0 += w[0] * x[0] + w[1] * x[1] + w[2] * x[2] + w[3] * x[3];
    s1 += w[4] * x[0] + w[5] * x[1] + w[6] * x[2] + w[7] * x[3];
    s2 += w[8] * x[0] + w[9] * x[1] + w[10] * x[2] + w[11] * x[3];
    s3 += w[12] * x[0] + w[13] * x[1] + w[14] * x[2] + w[15] * x[3];
    w += 16;
    x += 4;
  }
  ((int32_t *)sums)[0] = s0;
  ((int32_t *)sums)[1] = s1;
  ((int32_t *)sums)[2] = s2;
  ((int32_t *)sums)[3] = s3;
}
