// Four products of 8-bit integers, added up in 32 bits, for one pack of columns: what each instruction set has for it.
//
// All forms are exact: no intermediate sum leaves its type. Activations and weights lie in −127 … 127.
//   Left    four activations of one row, in every lane
//   Right   four weights of each column, [lane][4]
//   Acc     sums of one pack; start() is what they begin with, result() brings them into lane order
//   kPlane  in what form Left reads the integers
#pragma once

#include "math/pack.hpp"

#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

LSTMCORE_BEGIN_NAMESPACE

/// How quantised activations q lie in the two planes of Int8Rows.
enum class Plane {
  none,       ///< q, nothing
  magnitude,  ///< −1 where q < 0 and else 0, |q|
  offset,     ///< q, q + 128
};

using IntPack = PackTypes<float>::Integer;

inline std::int32_t four_bytes(const void* p) noexcept {
  std::int32_t v = 0;
  std::memcpy(&v, p, sizeof v);
  return v;
}

// x86 has products of unsigned by signed bytes. With VNNI q + 128 is multiplied, and 128 · Σw, known beforehand, taken
// away from a sum in 32 bits. Without, pairs are added in 16 bits and would saturate for 255 · 127 twice. So |q| is
// multiplied, by w where q ≥ 0 and by −w − 1, w with all bits turned, where q < 0: 2 · 127 · 128 fits, and what the −1
// take away is the same for all columns, Σ |q| of the negative q. Tried: the instruction that copies signs (VPSIGNB, 64
// to 70 billion products a second on Zen 3 where this gives 70 to 76) and widening weights to 16 bits (62 to 71).

#if defined(__AVX512BW__)

struct PairDot {
  static constexpr Plane kPlane = Plane::magnitude;
  static constexpr int kFullRows = 4, kStripRows = 6, kStripPacks = 4;
  using Acc = __m512i;
  using Right = __m512i;
  struct Left {
    __m512i magnitude, turned;
  };
  static Acc start(const std::int32_t*, std::int32_t negative) noexcept { return _mm512_set1_epi32(negative); }
  static Left left(const std::int8_t* q, const std::uint8_t* plane) noexcept {
    return {_mm512_set1_epi32(four_bytes(plane)), _mm512_set1_epi32(four_bytes(q))};
  }
  static Right right(const std::int8_t* w) noexcept { return _mm512_loadu_si512(w); }
  static void add(Acc& acc, const Left& left, Right w) noexcept {
    const __m512i pairs = _mm512_maddubs_epi16(left.magnitude, _mm512_xor_si512(w, left.turned));
    acc = _mm512_add_epi32(acc, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
  }
  static IntPack result(Acc acc) noexcept { return reinterpret_cast<IntPack>(acc); }
};

/// As assembly, since the engine is not compiled for VNNI and asks for it at run time.
struct VnniDot {
  static constexpr Plane kPlane = Plane::offset;
  static constexpr int kFullRows = 4, kStripRows = 6, kStripPacks = 4;
  using Acc = __m512i;
  using Right = __m512i;
  using Left = __m512i;
  static Acc start(const std::int32_t* minus_sums, std::int32_t) noexcept { return _mm512_loadu_si512(minus_sums); }
  static Left left(const std::int8_t*, const std::uint8_t* plane) noexcept {
    return _mm512_set1_epi32(four_bytes(plane));
  }
  static Right right(const std::int8_t* w) noexcept { return _mm512_loadu_si512(w); }
  static void add(Acc& acc, Left left, Right w) noexcept {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(left), "v"(w));
  }
  static IntPack result(Acc acc) noexcept { return reinterpret_cast<IntPack>(acc); }
};

#elif defined(__AVX2__)

struct PairDot {
  static constexpr Plane kPlane = Plane::magnitude;
  static constexpr int kFullRows = 2, kStripRows = 4, kStripPacks = 2;
  using Acc = __m256i;
  using Right = __m256i;
  struct Left {
    __m256i magnitude, turned;
  };
  static Acc start(const std::int32_t*, std::int32_t negative) noexcept { return _mm256_set1_epi32(negative); }
  static Left left(const std::int8_t* q, const std::uint8_t* plane) noexcept {
    return {_mm256_set1_epi32(four_bytes(plane)), _mm256_set1_epi32(four_bytes(q))};
  }
  static Right right(const std::int8_t* w) noexcept { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w)); }
  static void add(Acc& acc, const Left& left, Right w) noexcept {
    const __m256i pairs = _mm256_maddubs_epi16(left.magnitude, _mm256_xor_si256(w, left.turned));
    acc = _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    __asm__("" : "+x"(acc));  // one register for each sum: GCC 12 copies all eight, and two through the stack
  }
  static IntPack result(Acc acc) noexcept { return reinterpret_cast<IntPack>(acc); }
};

/// AVX-VNNI, as assembly for the reason above.
struct VnniDot {
  static constexpr Plane kPlane = Plane::offset;
  static constexpr int kFullRows = 3, kStripRows = 6, kStripPacks = 2;
  using Acc = __m256i;
  using Right = __m256i;
  using Left = __m256i;
  static Acc start(const std::int32_t* minus_sums, std::int32_t) noexcept {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(minus_sums));
  }
  static Left left(const std::int8_t*, const std::uint8_t* plane) noexcept {
    return _mm256_set1_epi32(four_bytes(plane));
  }
  static Right right(const std::int8_t* w) noexcept { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w)); }
  static void add(Acc& acc, Left left, Right w) noexcept {
    __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(acc) : "x"(left), "x"(w));
  }
  static IntPack result(Acc acc) noexcept { return reinterpret_cast<IntPack>(acc); }
};

#elif defined(__SSE2__) && !defined(__AVX__)

struct PairDot {
  static constexpr Plane kPlane = Plane::none;
  static constexpr int kFullRows = 1, kStripRows = 2, kStripPacks = 2;
  struct Acc {
    __m128i low, high;  ///< two sums a lane, of lanes 0 and 1, 2 and 3
  };
  using Right = Acc;
  using Left = __m128i;
  static Acc start(const std::int32_t*, std::int32_t) noexcept { return {_mm_setzero_si128(), _mm_setzero_si128()}; }
  static Left left(const std::int8_t* q, const std::uint8_t*) noexcept {
    const __m128i bytes = _mm_set1_epi32(four_bytes(q));
    return _mm_unpacklo_epi8(bytes, _mm_cmpgt_epi8(_mm_setzero_si128(), bytes));
  }
  static Right right(const std::int8_t* w) noexcept {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(w));
    const __m128i sign = _mm_cmpgt_epi8(_mm_setzero_si128(), bytes);
    return {_mm_unpacklo_epi8(bytes, sign), _mm_unpackhi_epi8(bytes, sign)};
  }
  static void add(Acc& acc, Left left, const Right& w) noexcept {
    acc.low = _mm_add_epi32(acc.low, _mm_madd_epi16(left, w.low));
    acc.high = _mm_add_epi32(acc.high, _mm_madd_epi16(left, w.high));
  }
  static IntPack result(const Acc& acc) noexcept {
    const __m128 low = _mm_castsi128_ps(acc.low);
    const __m128 high = _mm_castsi128_ps(acc.high);
    const __m128i even = _mm_castps_si128(_mm_shuffle_ps(low, high, 0x88));
    const __m128i odd = _mm_castps_si128(_mm_shuffle_ps(low, high, 0xDD));
    return reinterpret_cast<IntPack>(_mm_add_epi32(even, odd));
  }
};

#elif defined(__aarch64__)

struct PairDot {
  static constexpr Plane kPlane = Plane::none;
#if defined(__ARM_FEATURE_DOTPROD)
  static constexpr int kFullRows = 4, kStripRows = 4, kStripPacks = 4;
  using Acc = int32x4_t;
  static Acc start(const std::int32_t*, std::int32_t) noexcept { return vdupq_n_s32(0); }
  static IntPack result(Acc acc) noexcept { return reinterpret_cast<IntPack>(acc); }
  using Left = int8x16_t;
  static Left left(const std::int8_t* q, const std::uint8_t*) noexcept {
    return vreinterpretq_s8_s32(vdupq_n_s32(four_bytes(q)));
  }
  static void add(Acc& acc, Left left, int8x16_t w) noexcept { acc = vdotq_s32(acc, left, w); }
#else
  static constexpr int kFullRows = 2, kStripRows = 4, kStripPacks = 2;
  struct Acc {
    int32x4_t low, high;  ///< two sums a lane, of lanes 0 and 1, 2 and 3
  };
  static Acc start(const std::int32_t*, std::int32_t) noexcept { return {vdupq_n_s32(0), vdupq_n_s32(0)}; }
  static IntPack result(const Acc& acc) noexcept { return reinterpret_cast<IntPack>(vpaddq_s32(acc.low, acc.high)); }
  using Left = int8x8_t;
  static Left left(const std::int8_t* q, const std::uint8_t*) noexcept {
    return vreinterpret_s8_s32(vdup_n_s32(four_bytes(q)));
  }
  static void add(Acc& acc, Left left, int8x16_t w) noexcept {
    acc.low = vpadalq_s16(acc.low, vmull_s8(left, vget_low_s8(w)));
    acc.high = vpadalq_s16(acc.high, vmull_s8(left, vget_high_s8(w)));
  }
#endif
  using Right = int8x16_t;
  static Right right(const std::int8_t* w) noexcept { return vld1q_s8(w); }
};

#else

struct PairDot {
  static constexpr Plane kPlane = Plane::none;
  static constexpr int kFullRows = 1, kStripRows = 1, kStripPacks = 1;
  using Acc = IntPack;
  using Left = const std::int8_t*;
  using Right = const std::int8_t*;
  static Acc start(const std::int32_t*, std::int32_t) noexcept { return IntPack{}; }
  static Left left(const std::int8_t* q, const std::uint8_t*) noexcept { return q; }
  static Right right(const std::int8_t* w) noexcept { return w; }
  static void add(Acc& acc, Left q, Right w) noexcept {
    for (int lane = 0; lane < kLanes<float>; ++lane) {
      for (int k = 0; k < 4; ++k) acc[lane] += std::int32_t{q[k]} * w[4 * lane + k];
    }
  }
  static IntPack result(Acc acc) noexcept { return acc; }
};

#endif

#if defined(__AVX512BW__) || defined(__AVX2__)
#define LSTMCORE_HAS_VNNI_DOT 1
/// CPUID leaf 7 (Intel Software Developer's Manual, volume 2): AVX512_VNNI for the engine avx512, AVX-VNNI for avx2.
/// The registers that they use are those of the engine, which the operating system saves or the engine would not run.
inline bool cpu_has_vnni() noexcept {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
#if defined(__AVX512BW__)
  return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (ecx >> 11 & 1U) != 0;
#else
  return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && eax >= 1 &&
         __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0 && (eax >> 4 & 1U) != 0;
#endif
}
#else
#define LSTMCORE_HAS_VNNI_DOT 0
#endif

/// Nearest integers, half to even.
inline IntPack nearest(Pack<float> v) noexcept {
#if defined(__AVX512F__)
  return reinterpret_cast<IntPack>(_mm512_cvtps_epi32(v));
#elif defined(__AVX__)
  return reinterpret_cast<IntPack>(_mm256_cvtps_epi32(v));
#elif defined(__SSE2__)
  return reinterpret_cast<IntPack>(_mm_cvtps_epi32(v));
#elif defined(__aarch64__)
  return reinterpret_cast<IntPack>(vcvtnq_s32_f32(reinterpret_cast<float32x4_t>(v)));
#else
  IntPack r{};
  for (int lane = 0; lane < kLanes<float>; ++lane) r[lane] = static_cast<std::int32_t>(__builtin_nearbyintf(v[lane]));
  return r;
#endif
}

LSTMCORE_END_NAMESPACE
