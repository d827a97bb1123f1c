/* Products with Armv8.1-M's vectors: four blocks at a time, loaded so that each register holds 16 columns of a row. */
#ifndef LSTMCORE_EDGE_PRODUCTS_MVE_H
#define LSTMCORE_EDGE_PRODUCTS_MVE_H

#define LCE_STEP 4U

typedef struct lce_sums {
  int32_t row[4];
} lce_sums;

typedef struct lce_weights {
  int8x16_t row[4];
} lce_weights;

typedef struct lce_columns {
  int8x16_t bytes;
  int16x8_t even, odd; /* int16: columns 0, 2, … and 1, 3, … */
} lce_columns;

LCE_INLINE lce_sums lce_begin(const int32_t *bias) {
  lce_sums s;
  s.row[0] = bias[0];
  s.row[1] = bias[1];
  s.row[2] = bias[2];
  s.row[3] = bias[3];
  return s;
}
LCE_INLINE void lce_end(int32_t *out, lce_sums s) {
  out[0] = s.row[0];
  out[1] = s.row[1];
  out[2] = s.row[2];
  out[3] = s.row[3];
}

LCE_INLINE lce_sums lce_shifted(lce_sums s, uint32_t bits) {
  s.row[0] = (int32_t)((uint32_t)s.row[0] << bits);
  s.row[1] = (int32_t)((uint32_t)s.row[1] << bits);
  s.row[2] = (int32_t)((uint32_t)s.row[2] << bits);
  s.row[3] = (int32_t)((uint32_t)s.row[3] << bits);
  return s;
}

/* 4 bits with a sign, times 16. */
LCE_INLINE int8x16_t lce_low_halves(uint32x4_t v) {
  return vreinterpretq_s8_u8(vshlq_n_u8(vreinterpretq_u8_u32(v), 4));
}
LCE_INLINE int8x16_t lce_high_halves(uint32x4_t v) {
  return vreinterpretq_s8_u8(vandq_u8(vreinterpretq_u8_u32(v), vdupq_n_u8(0xF0)));
}

LCE_INLINE lce_weights lce_read(const unsigned char *w, int packed) {
  const uint32_t *words = (const uint32_t *)(const void *)w;
  lce_weights r;
  if (packed) {
    const uint32x4x2_t v = vld2q_u32(words);
    r.row[0] = lce_low_halves(v.val[0]);
    r.row[1] = lce_high_halves(v.val[0]);
    r.row[2] = lce_low_halves(v.val[1]);
    r.row[3] = lce_high_halves(v.val[1]);
  } else {
    const uint32x4x4_t v = vld4q_u32(words);
    r.row[0] = vreinterpretq_s8_u32(v.val[0]);
    r.row[1] = vreinterpretq_s8_u32(v.val[1]);
    r.row[2] = vreinterpretq_s8_u32(v.val[2]);
    r.row[3] = vreinterpretq_s8_u32(v.val[3]);
  }
  return r;
}
LCE_INLINE lce_weights lce_read_some(const unsigned char *w, uint32_t blocks, int packed) {
  const uint32_t *words = (const uint32_t *)(const void *)w;
  const mve_pred16_t there = vctp32q(blocks);
  lce_weights r;
  if (packed) {
    const uint32x4_t at = vidupq_n_u32(0, 2);
    const uint32x4_t first = vldrwq_gather_shifted_offset_z_u32(words, at, there);
    const uint32x4_t second = vldrwq_gather_shifted_offset_z_u32(words + 1, at, there);
    r.row[0] = lce_low_halves(first);
    r.row[1] = lce_high_halves(first);
    r.row[2] = lce_low_halves(second);
    r.row[3] = lce_high_halves(second);
  } else {
    const uint32x4_t at = vidupq_n_u32(0, 4);
    r.row[0] = vreinterpretq_s8_u32(vldrwq_gather_shifted_offset_z_u32(words, at, there));
    r.row[1] = vreinterpretq_s8_u32(vldrwq_gather_shifted_offset_z_u32(words + 1, at, there));
    r.row[2] = vreinterpretq_s8_u32(vldrwq_gather_shifted_offset_z_u32(words + 2, at, there));
    r.row[3] = vreinterpretq_s8_u32(vldrwq_gather_shifted_offset_z_u32(words + 3, at, there));
  }
  return r;
}

LCE_INLINE lce_columns lce_spread(const void *a, uint32_t column, int wide) {
  lce_columns c;
  if (wide) {
    const int16x8x2_t v = vld2q_s16((const int16_t *)a + column);
    c.even = v.val[0];
    c.odd = v.val[1];
    c.bytes = vreinterpretq_s8_s16(c.even);
  } else {
    c.bytes = vldrbq_s8((const int8_t *)a + column);
    c.even = c.odd = vreinterpretq_s16_s8(c.bytes);
  }
  return c;
}
LCE_INLINE lce_columns lce_spread_some(const void *a, uint32_t column, uint32_t blocks, int wide) {
  lce_columns c;
  if (wide) {
    const int16_t *from = (const int16_t *)a + column;
    const uint16x8_t at = vidupq_n_u16(0, 2);
    const mve_pred16_t there = vctp16q(2U * blocks);
    c.even = vldrhq_gather_shifted_offset_z_s16(from, at, there);
    c.odd = vldrhq_gather_shifted_offset_z_s16(from + 1, at, there);
    c.bytes = vreinterpretq_s8_s16(c.even);
  } else {
    c.bytes = vldrbq_z_s8((const int8_t *)a + column, vctp8q(4U * blocks));
    c.even = c.odd = vreinterpretq_s16_s8(c.bytes);
  }
  return c;
}

LCE_INLINE int32_t lce_row_sum(int32_t sum, int8x16_t w, lce_columns c, int wide) {
  return wide ? vmladavaq_s16(vmladavaq_s16(sum, vmovlbq_s8(w), c.even), vmovltq_s8(w), c.odd)
              : vmladavaq_s8(sum, w, c.bytes);
}
LCE_INLINE lce_sums lce_add(lce_sums s, lce_weights w, lce_columns c, int wide) {
  s.row[0] = lce_row_sum(s.row[0], w.row[0], c, wide);
  s.row[1] = lce_row_sum(s.row[1], w.row[1], c, wide);
  s.row[2] = lce_row_sum(s.row[2], w.row[2], c, wide);
  s.row[3] = lce_row_sum(s.row[3], w.row[3], c, wide);
  return s;
}

#endif
