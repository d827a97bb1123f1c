/* Products with NEON: a block of int8 is one SDOT by four activations where there are dot products, two widening
 * products otherwise. */
#ifndef LSTMCORE_EDGE_PRODUCTS_NEON_H
#define LSTMCORE_EDGE_PRODUCTS_NEON_H

#define LCE_SHARE
#define LCE_STEP 1U

typedef int8x16_t lce_weights;

typedef struct lce_columns {
  int8x16_t bytes; /* four columns four times */
  int16x4_t words;
} lce_columns;

typedef struct lce_sums {
  int32x4_t rows;         /* 0 … 3 */
  int32x4_t low, high;    /* pairs of rows 0 and 1, of 2 and 3 */
  int32x4_t row[4];       /* columns of each */
} lce_sums;

LCE_INLINE lce_sums lce_begin(const int32_t *bias) {
  const int32x4_t zero = vdupq_n_s32(0);
  lce_sums s;
  s.rows = vld1q_s32(bias);
  s.low = s.high = zero;
  s.row[0] = s.row[1] = s.row[2] = s.row[3] = zero;
  return s;
}

LCE_INLINE lce_sums lce_shifted(lce_sums s, uint32_t bits) {
  const int32x4_t left = vdupq_n_s32((int32_t)bits);
  s.rows = vshlq_s32(s.rows, left);
  s.low = vshlq_s32(s.low, left);
  s.high = vshlq_s32(s.high, left);
  s.row[0] = vshlq_s32(s.row[0], left);
  s.row[1] = vshlq_s32(s.row[1], left);
  s.row[2] = vshlq_s32(s.row[2], left);
  s.row[3] = vshlq_s32(s.row[3], left);
  return s;
}

LCE_INLINE int32x4_t lce_pairs(int32x4_t a, int32x4_t b) { /* a0 + a1, a2 + a3, b0 + b1, b2 + b3 */
  return vcombine_s32(vpadd_s32(vget_low_s32(a), vget_high_s32(a)), vpadd_s32(vget_low_s32(b), vget_high_s32(b)));
}
LCE_INLINE void lce_end(int32_t *out, lce_sums s) {
  const int32x4_t columns = lce_pairs(lce_pairs(s.row[0], s.row[1]), lce_pairs(s.row[2], s.row[3]));
  vst1q_s32(out, vaddq_s32(vaddq_s32(s.rows, lce_pairs(s.low, s.high)), columns));
}

LCE_INLINE lce_weights lce_read(const unsigned char *w, int packed) {
  lce_weights weights;
  if (packed) { /* 4 bits, times 16: low and high halves are rows in turn */
    const uint8x8_t v = vld1_u8(w);
    const uint32x2x2_t rows = vzip_u32(vreinterpret_u32_u8(vshl_n_u8(v, 4)),
                                       vreinterpret_u32_u8(vand_u8(v, vdup_n_u8(0xF0))));
    weights = vreinterpretq_s8_u32(vcombine_u32(rows.val[0], rows.val[1]));
  } else {
    weights = vreinterpretq_s8_u8(vld1q_u8(w));
  }
  return weights;
}

LCE_INLINE lce_columns lce_spread(const void *a, uint32_t column, int wide) {
  lce_columns c;
  if (wide) {
    c.words = vld1_s16((const int16_t *)a + column);
    c.bytes = vdupq_n_s8(0);
  } else {
    int32_t four;
    (void)memcpy(&four, (const int8_t *)a + column, sizeof(four));
    c.bytes = vreinterpretq_s8_s32(vdupq_n_s32(four));
    c.words = vdup_n_s16(0);
  }
  return c;
}

LCE_INLINE lce_sums lce_add(lce_sums s, lce_weights w, lce_columns c, int wide) {
  if (wide) {
    const int16x8_t low = vmovl_s8(vget_low_s8(w)), high = vmovl_s8(vget_high_s8(w));
    s.row[0] = vmlal_s16(s.row[0], vget_low_s16(low), c.words);
    s.row[1] = vmlal_s16(s.row[1], vget_high_s16(low), c.words);
    s.row[2] = vmlal_s16(s.row[2], vget_low_s16(high), c.words);
    s.row[3] = vmlal_s16(s.row[3], vget_high_s16(high), c.words);
  } else {
#if defined(__ARM_FEATURE_DOTPROD)
    s.rows = vdotq_s32(s.rows, w, c.bytes);
#else
    s.low = vpadalq_s16(s.low, vmull_s8(vget_low_s8(w), vget_low_s8(c.bytes)));
    s.high = vpadalq_s16(s.high, vmull_s8(vget_high_s8(w), vget_low_s8(c.bytes)));
#endif
  }
  return s;
}

#endif
