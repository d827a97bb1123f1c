// What this CPU has and what the operating system lets programs use of it.
//
// Asked of the CPU directly: `__builtin_cpu_supports` knows the level "x86-64-v3" from GCC 12 and Clang 18 on only, and
// Clang 14 does not know three of that level's features (f16c, lzcnt, movbe) at all.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string_view>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace lstmcore::cpu {

/// The registers that decide (Intel Software Developer's Manual, volume 2, CPUID; volume 1, chapter 13, XCR0).
struct Features {
  std::uint32_t leaf1_ecx = 0;
  std::uint32_t leaf7_ebx = 0;
  std::uint32_t extended1_ecx = 0;  ///< leaf 0x80000001
  std::uint64_t xcr0 = 0;           ///< register files that the operating system saves on a context switch
};

namespace detail {

constexpr std::uint32_t bits(std::initializer_list<int> positions) {
  std::uint32_t mask = 0;
  for (int position : positions) mask |= std::uint32_t{1} << position;
  return mask;
}

constexpr bool has(std::uint64_t value, std::uint64_t mask) { return (value & mask) == mask; }

}  // namespace detail

constexpr bool os_saves_registers(const Features& features) {
  return detail::has(features.leaf1_ecx, detail::bits({27}));
}

/// The level x86-64-v3 of the System V ABI supplement (2020, table 3.1), v2 included: what -march=x86-64-v3 may emit.
constexpr bool has_x86_64_v3(const Features& features) {
  // sse3, ssse3, fma, cmpxchg16b, sse4.1, sse4.2, movbe, popcnt, osxsave, avx, f16c
  return detail::has(features.leaf1_ecx, detail::bits({0, 9, 12, 13, 19, 20, 22, 23, 27, 28, 29})) &&
         detail::has(features.leaf7_ebx, detail::bits({3, 5, 8})) &&   // bmi1, avx2, bmi2
         detail::has(features.extended1_ecx, detail::bits({0, 5})) &&  // lahf, lzcnt
         detail::has(features.xcr0, detail::bits({1, 2}));             // xmm, ymm
}

/// The level x86-64-v4: AVX-512 F, DQ, CD, BW and VL.
constexpr bool has_x86_64_v4(const Features& features) {
  return has_x86_64_v3(features) && detail::has(features.leaf7_ebx, detail::bits({16, 17, 28, 30, 31})) &&
         detail::has(features.xcr0, detail::bits({5, 6, 7}));  // mask registers, upper zmm0–15, zmm16–31
}

/// Whether code of the engine `isa` can run. Engines without a condition are the base of their architecture.
constexpr bool can_run(std::string_view isa, const Features& features) {
  if (isa == "avx2") return has_x86_64_v3(features);
  if (isa == "avx512") return has_x86_64_v4(features);
  return true;
}

inline Features detect() {
  Features features;
#if defined(__x86_64__)
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid(1, &eax, &ebx, &ecx, &edx)) features.leaf1_ecx = ecx;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) features.leaf7_ebx = ebx;
  if (__get_cpuid(0x80000001U, &eax, &ebx, &ecx, &edx)) features.extended1_ecx = ecx;
  if (os_saves_registers(features)) {
    std::uint32_t low = 0, high = 0;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));  // the intrinsic would need -mxsave
    features.xcr0 = (std::uint64_t{high} << 32) | low;
  }
#endif
  return features;
}

}  // namespace lstmcore::cpu
