/* Products with SSE2, SSSE3 (int8 activations: u8·s8 products of |x| and w with the sign of x; |w|, |x| ≤ 127 keep pairs
 * below 2^15) and AVX2 (two blocks at a time). */
#ifndef LSTMCORE_EDGE_PRODUCTS_X86_H
#define LSTMCORE_EDGE_PRODUCTS_X86_H

#define LCE_SHARE

#if defined(__AVX2__)

#define LCE_STEP 2U
typedef __m256i lce_sums; /* rows 0 … 3 of the first block, of the second */
typedef __m256i lce_weights;

typedef struct lce_columns {
  __m256i x, size;   /* int8: four columns four times, and their absolute values */
  __m256i even, odd; /* int16: columns (0, 2) and (1, 3) four times */
} lce_columns;

LCE_INLINE lce_sums lce_begin(const int32_t *bias) {
  return _mm256_zextsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)bias));
}
LCE_INLINE void lce_end(int32_t *out, lce_sums s) {
  const __m128i sums = _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
  _mm_storeu_si128((__m128i *)(void *)out, sums);
}

LCE_INLINE lce_sums lce_shifted(lce_sums s, uint32_t bits) {
  return _mm256_sll_epi32(s, _mm_cvtsi32_si128((int32_t)bits));
}

LCE_INLINE lce_weights lce_unpacked(__m128i v) { /* 4 bits, times 16: low and high halves are rows in turn */
  const __m128i mask = _mm_set1_epi8((char)0xF0);
  const __m128i low = _mm_and_si128(_mm_slli_epi16(v, 4), mask), high = _mm_and_si128(v, mask);
  return _mm256_set_m128i(_mm_unpackhi_epi32(low, high), _mm_unpacklo_epi32(low, high));
}
LCE_INLINE lce_weights lce_read(const unsigned char *w, int packed) {
  return packed ? lce_unpacked(_mm_loadu_si128((const __m128i *)(const void *)w))
                : _mm256_loadu_si256((const __m256i *)(const void *)w);
}
LCE_INLINE lce_weights lce_read_some(const unsigned char *w, uint32_t blocks, int packed) {
  (void)blocks; /* one */
  return packed ? lce_unpacked(_mm_loadl_epi64((const __m128i *)(const void *)w))
                : _mm256_zextsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)w));
}

LCE_INLINE lce_columns lce_spread_bytes(__m128i both) {
  const __m256i spread = _mm256_set_epi32(0x07060504, 0x07060504, 0x07060504, 0x07060504, 0x03020100, 0x03020100,
                                          0x03020100, 0x03020100);
  lce_columns c;
  c.x = _mm256_shuffle_epi8(_mm256_broadcastq_epi64(both), spread);
  c.size = _mm256_abs_epi8(c.x);
  c.even = c.odd = c.x;
  return c;
}
LCE_INLINE lce_columns lce_spread_words(__m128i both) {
  const __m256i words = _mm256_broadcastsi128_si256(both);
  lce_columns c;
  c.even = _mm256_shuffle_epi8(words, _mm256_set_epi32(0x0D0C0908, 0x0D0C0908, 0x0D0C0908, 0x0D0C0908, 0x05040100,
                                                       0x05040100, 0x05040100, 0x05040100));
  c.odd = _mm256_shuffle_epi8(words, _mm256_set_epi32(0x0F0E0B0A, 0x0F0E0B0A, 0x0F0E0B0A, 0x0F0E0B0A, 0x07060302,
                                                      0x07060302, 0x07060302, 0x07060302));
  c.x = c.size = c.even;
  return c;
}
LCE_INLINE lce_columns lce_spread(const void *a, uint32_t column, int wide) {
  return wide ? lce_spread_words(_mm_loadu_si128((const __m128i *)(const void *)((const int16_t *)a + column)))
              : lce_spread_bytes(_mm_loadl_epi64((const __m128i *)(const void *)((const int8_t *)a + column)));
}
LCE_INLINE lce_columns lce_spread_some(const void *a, uint32_t column, uint32_t blocks, int wide) {
  int32_t four = 0;
  (void)blocks;
  if (!wide) {
    (void)memcpy(&four, (const int8_t *)a + column, sizeof(four));
  }
  return wide ? lce_spread_words(_mm_loadl_epi64((const __m128i *)(const void *)((const int16_t *)a + column)))
              : lce_spread_bytes(_mm_cvtsi32_si128(four));
}

LCE_INLINE lce_sums lce_add(lce_sums s, lce_weights w, lce_columns c, int wide) {
  if (wide) {
    const __m256i odd = _mm256_srai_epi16(w, 8), even = _mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8);
    const __m256i first = _mm256_madd_epi16(even, c.even), second = _mm256_madd_epi16(odd, c.odd);
    return _mm256_add_epi32(s, _mm256_add_epi32(first, second));
  }
  return _mm256_add_epi32(
      s, _mm256_madd_epi16(_mm256_maddubs_epi16(c.size, _mm256_sign_epi8(w, c.x)), _mm256_set1_epi16(1)));
}

#else

#define LCE_STEP 1U
typedef __m128i lce_sums; /* rows 0 … 3 */
typedef __m128i lce_weights;

typedef struct lce_columns {
  __m128i x, size;   /* int8: four columns four times, and their absolute values */
  __m128i even, odd; /* int16: columns (0, 2) and (1, 3) four times */
} lce_columns;

LCE_INLINE lce_sums lce_begin(const int32_t *bias) { return _mm_loadu_si128((const __m128i *)(const void *)bias); }
LCE_INLINE void lce_end(int32_t *out, lce_sums s) { _mm_storeu_si128((__m128i *)(void *)out, s); }
LCE_INLINE lce_sums lce_shifted(lce_sums s, uint32_t bits) {
  return _mm_sll_epi32(s, _mm_cvtsi32_si128((int32_t)bits));
}

LCE_INLINE lce_weights lce_read(const unsigned char *w, int packed) {
  lce_weights weights;
  if (packed) {
    const __m128i v = _mm_loadl_epi64((const __m128i *)(const void *)w), mask = _mm_set1_epi8((char)0xF0);
    weights = _mm_unpacklo_epi32(_mm_and_si128(_mm_slli_epi16(v, 4), mask), _mm_and_si128(v, mask));
  } else {
    weights = _mm_loadu_si128((const __m128i *)(const void *)w);
  }
  return weights;
}

LCE_INLINE lce_columns lce_spread(const void *a, uint32_t column, int wide) {
  lce_columns c;
  __m128i words;
  if (wide) {
    words = _mm_loadl_epi64((const __m128i *)(const void *)((const int16_t *)a + column));
    c.x = c.size = words;
  } else {
    int32_t four;
    (void)memcpy(&four, (const int8_t *)a + column, sizeof(four));
    words = _mm_cvtsi32_si128(four);
    c.x = _mm_shuffle_epi32(words, 0);
#if defined(__SSSE3__)
    c.size = _mm_abs_epi8(c.x);
#else
    c.size = c.x;
#endif
    words = _mm_srai_epi16(_mm_unpacklo_epi8(words, words), 8);
  }
  words = _mm_shufflelo_epi16(words, 0xD8); /* columns 0, 2, 1, 3 */
  c.even = _mm_shuffle_epi32(words, 0x00);
  c.odd = _mm_shuffle_epi32(words, 0x55);
  return c;
}

LCE_INLINE lce_sums lce_add(lce_sums s, lce_weights w, lce_columns c, int wide) {
#if defined(__SSSE3__)
  if (!wide) {
    return _mm_add_epi32(s, _mm_madd_epi16(_mm_maddubs_epi16(c.size, _mm_sign_epi8(w, c.x)), _mm_set1_epi16(1)));
  }
#endif
  (void)wide;
  {
    const __m128i odd = _mm_srai_epi16(w, 8), even = _mm_srai_epi16(_mm_slli_epi16(w, 8), 8);
    return _mm_add_epi32(s, _mm_add_epi32(_mm_madd_epi16(even, c.even), _mm_madd_epi16(odd, c.odd)));
  }
}

#if defined(__x86_64__) && !defined(LSTMCORE_EDGE_ONE_PROCESSOR)
/* The product that takes the time, four row groups of int8, with AVX2 where the processor turns out to have it: as above,
 * two blocks at a time. It makes up for builds without -mavx2, three times as fast as SSE2. LSTMCORE_EDGE_ONE_PROCESSOR
 * leaves it out: the processor is then the one that the compiler's flags say. */
#define LCE_CHOOSE_AT_RUN_TIME

__attribute__((target("avx2"))) static void lce_four_groups_avx2(const unsigned char *w, uint32_t blocks, uint32_t first,
                                                                uint32_t first_shift, const int8_t *x,
                                                                const int32_t *bias, int32_t *out) {
  const __m256i spread = _mm256_set_epi32(0x07060504, 0x07060504, 0x07060504, 0x07060504, 0x03020100, 0x03020100,
                                          0x03020100, 0x03020100);
  const __m256i ones = _mm256_set1_epi16(1);
  const size_t stride = (size_t)16 * blocks;
  __m256i sums[4];
  uint32_t b = 0, g;
  for (g = 0; g < 4U; ++g) {
    sums[g] = _mm256_zextsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)(bias + (size_t)4 * g)));
  }
  for (;;) {
    const uint32_t end = b < first ? first : blocks;
    for (; b < end; b += 2U) {
      const int both = b + 1U < end;
      int64_t bytes = 0;
      __m256i columns, size;
      (void)memcpy(&bytes, x + (size_t)4 * b, both ? 8U : 4U);
      columns = _mm256_shuffle_epi8(_mm256_set1_epi64x(bytes), spread);
      size = _mm256_abs_epi8(columns);
      for (g = 0; g < 4U; ++g) {
        const unsigned char *from = w + g * stride + (size_t)16 * b;
        const __m256i weights = both ? _mm256_loadu_si256((const __m256i *)(const void *)from)
                                     : _mm256_zextsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)from));
        const __m256i pairs = _mm256_maddubs_epi16(size, _mm256_sign_epi8(weights, columns));
        sums[g] = _mm256_add_epi32(sums[g], _mm256_madd_epi16(pairs, ones));
      }
    }
    b = end;
    if (end == blocks) {
      break;
    }
    for (g = 0; g < 4U; ++g) {
      sums[g] = _mm256_sll_epi32(sums[g], _mm_cvtsi32_si128((int32_t)first_shift));
    }
  }
  for (g = 0; g < 4U; ++g) {
    const __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(sums[g]), _mm256_extracti128_si256(sums[g], 1));
    _mm_storeu_si128((__m128i *)(void *)(out + (size_t)4 * g), sum);
  }
}
#endif

#endif

#endif
