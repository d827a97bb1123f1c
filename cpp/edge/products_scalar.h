/* Products one block at a time without vectors: portable C, and Armv7E-M's DSP instructions (two products each). */
#ifndef LSTMCORE_EDGE_PRODUCTS_SCALAR_H
#define LSTMCORE_EDGE_PRODUCTS_SCALAR_H

#define LCE_STEP 1U

typedef struct lce_sums {
  int32_t row0, row1, row2, row3;
} lce_sums;

LCE_INLINE lce_sums lce_begin(const int32_t *bias) {
  lce_sums s;
  s.row0 = bias[0];
  s.row1 = bias[1];
  s.row2 = bias[2];
  s.row3 = bias[3];
  return s;
}
LCE_INLINE void lce_end(int32_t *out, lce_sums s) {
  out[0] = s.row0;
  out[1] = s.row1;
  out[2] = s.row2;
  out[3] = s.row3;
}

LCE_INLINE lce_sums lce_shifted(lce_sums s, uint32_t bits) {
  s.row0 = (int32_t)((uint32_t)s.row0 << bits);
  s.row1 = (int32_t)((uint32_t)s.row1 << bits);
  s.row2 = (int32_t)((uint32_t)s.row2 << bits);
  s.row3 = (int32_t)((uint32_t)s.row3 << bits);
  return s;
}

#if defined(LCE_DSP)

/* Pairs of int16 in a word: columns 0 and 2, 1 and 3. */
typedef struct lce_columns {
  uint32_t even, odd;
} lce_columns;

typedef struct lce_weights { /* four int8 a row */
  uint32_t row0, row1, row2, row3;
} lce_weights;

LCE_INLINE uint32_t lce_even_bytes(uint32_t x) {
  uint32_t result;
  __asm__("sxtb16 %0, %1" : "=r"(result) : "r"(x));
  return result;
}
LCE_INLINE uint32_t lce_odd_bytes(uint32_t x) {
  uint32_t result;
  __asm__("sxtb16 %0, %1, ror #8" : "=r"(result) : "r"(x));
  return result;
}
LCE_INLINE int32_t lce_two_products(uint32_t a, uint32_t b, int32_t sum) {
  int32_t result;
  __asm__("smlad %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(b), "r"(sum));
  return result;
}
LCE_INLINE uint32_t lce_word(const void *from) {
  uint32_t word;
  (void)memcpy(&word, from, sizeof(word));
  return word;
}

LCE_INLINE lce_weights lce_read(const unsigned char *w, int packed) {
  lce_weights r;
  if (packed) {
    const uint32_t first = lce_word(w), second = lce_word(w + 4);
    r.row0 = (first << 4) & 0xF0F0F0F0U;
    r.row1 = first & 0xF0F0F0F0U;
    r.row2 = (second << 4) & 0xF0F0F0F0U;
    r.row3 = second & 0xF0F0F0F0U;
  } else {
    r.row0 = lce_word(w);
    r.row1 = lce_word(w + 4);
    r.row2 = lce_word(w + 8);
    r.row3 = lce_word(w + 12);
  }
  return r;
}
LCE_INLINE lce_columns lce_spread(const void *a, uint32_t column, int wide) {
  lce_columns x;
  if (wide) {
    const uint32_t low = lce_word((const int16_t *)a + column), high = lce_word((const int16_t *)a + column + 2);
    x.even = (low & 0xFFFFU) | (high << 16);
    x.odd = (low >> 16) | (high & 0xFFFF0000U);
  } else {
    const uint32_t word = lce_word((const int8_t *)a + column);
    x.even = lce_even_bytes(word);
    x.odd = lce_odd_bytes(word);
  }
  return x;
}
LCE_INLINE int32_t lce_four_products(uint32_t w, lce_columns x, int32_t sum) {
  return lce_two_products(lce_odd_bytes(w), x.odd, lce_two_products(lce_even_bytes(w), x.even, sum));
}

#else

typedef struct lce_columns {
  int32_t x0, x1, x2, x3;
} lce_columns;

typedef struct lce_weights {
  const unsigned char *at;
  int packed;
} lce_weights;

LCE_INLINE lce_weights lce_read(const unsigned char *w, int packed) {
  lce_weights r;
  r.at = w;
  r.packed = packed;
  return r;
}
LCE_INLINE lce_columns lce_spread(const void *a, uint32_t column, int wide) {
  lce_columns x;
  if (wide) {
    const int16_t *from = (const int16_t *)a + column;
    x.x0 = from[0];
    x.x1 = from[1];
    x.x2 = from[2];
    x.x3 = from[3];
  } else {
    const int8_t *from = (const int8_t *)a + column;
    x.x0 = from[0];
    x.x1 = from[1];
    x.x2 = from[2];
    x.x3 = from[3];
  }
  return x;
}
LCE_INLINE int32_t lce_dot(const signed char *w, lce_columns x) {
  return w[0] * x.x0 + w[1] * x.x1 + w[2] * x.x2 + w[3] * x.x3;
}
LCE_INLINE int32_t lce_dot_high(const signed char *w, lce_columns x) {
  return (w[0] & -16) * x.x0 + (w[1] & -16) * x.x1 + (w[2] & -16) * x.x2 + (w[3] & -16) * x.x3;
}
LCE_INLINE int32_t lce_dot_low(const unsigned char *w, lce_columns x) { /* 4 bits with a sign, times 16 */
  return (signed char)(unsigned char)(w[0] << 4) * x.x0 + (signed char)(unsigned char)(w[1] << 4) * x.x1 +
         (signed char)(unsigned char)(w[2] << 4) * x.x2 + (signed char)(unsigned char)(w[3] << 4) * x.x3;
}

#endif

LCE_INLINE lce_sums lce_add(lce_sums s, lce_weights w, lce_columns x, int wide) {
  (void)wide;
#if defined(LCE_DSP)
  s.row0 = lce_four_products(w.row0, x, s.row0);
  s.row1 = lce_four_products(w.row1, x, s.row1);
  s.row2 = lce_four_products(w.row2, x, s.row2);
  s.row3 = lce_four_products(w.row3, x, s.row3);
#else
  if (w.packed) {
    s.row0 += lce_dot_low(w.at, x);
    s.row1 += lce_dot_high((const signed char *)w.at, x);
    s.row2 += lce_dot_low(w.at + 4, x);
    s.row3 += lce_dot_high((const signed char *)w.at + 4, x);
  } else {
    s.row0 += lce_dot((const signed char *)w.at, x);
    s.row1 += lce_dot((const signed char *)w.at + 4, x);
    s.row2 += lce_dot((const signed char *)w.at + 8, x);
    s.row3 += lce_dot((const signed char *)w.at + 12, x);
  }
#endif
  return s;
}

#endif
