// Which engine runs where: the decision, on register values made up for CPUs that the test machine is not.
#include "check.hpp"

#include "cpu.hpp"

#include <cstdint>

namespace {

using lstmcore::cpu::can_run;
using lstmcore::cpu::Features;

// Register values of the kind that these CPUs report.
constexpr std::uint64_t os_xmm = 0x3, os_ymm = 0x7, os_zmm = 0xE7;

Features zen4() { return {0x7ef8320bU, 0xf1bf97a9U, 0x75c237ffU, os_zmm}; }
Features haswell() { return {0x7ffafbffU, 0x000027abU, 0x00000021U, os_ymm}; }
Features sandy_bridge() { return {0x1fbae3ffU, 0x00000000U, 0x00000001U, os_ymm}; }

Features without(Features features, std::uint32_t Features::* reg, int bit) {
  features.*reg &= ~(std::uint32_t{1} << bit);
  return features;
}

void test_real_cpus() {
  CHECK(can_run("baseline", Features{}));
  CHECK(can_run("neon", Features{}));
  CHECK(!can_run("avx2", Features{}));
  CHECK(!can_run("avx512", Features{}));
  CHECK(can_run("avx2", zen4()));
  CHECK(can_run("avx512", zen4()));
  CHECK(can_run("avx2", haswell()));
  CHECK(!can_run("avx512", haswell()));
  CHECK(!can_run("avx2", sandy_bridge()));
}

// The CPU has the units, but the operating system does not save their registers: using them would corrupt them.
void test_operating_system() {
  Features features = zen4();
  features.xcr0 = os_ymm;
  CHECK(can_run("avx2", features));
  CHECK(!can_run("avx512", features));
  features.xcr0 = os_xmm;
  CHECK(!can_run("avx2", features));
  for (int bit : {5, 6, 7}) {
    features.xcr0 = os_zmm & ~(std::uint64_t{1} << bit);
    CHECK(!can_run("avx512", features));
  }
  features = without(zen4(), &Features::leaf1_ecx, 27);  // osxsave
  CHECK(!can_run("avx2", features));
}

// Every feature that the compiler may use is required: virtual machines hide single ones.
void test_single_features() {
  for (int bit : {0, 9, 12, 13, 19, 20, 22, 23, 27, 28, 29}) {
    CHECK(!can_run("avx2", without(zen4(), &Features::leaf1_ecx, bit)));
  }
  for (int bit : {3, 5, 8}) CHECK(!can_run("avx2", without(zen4(), &Features::leaf7_ebx, bit)));
  for (int bit : {0, 5}) CHECK(!can_run("avx2", without(zen4(), &Features::extended1_ecx, bit)));
  for (int bit : {16, 17, 28, 30, 31}) {
    CHECK(!can_run("avx512", without(zen4(), &Features::leaf7_ebx, bit)));
    CHECK(can_run("avx2", without(zen4(), &Features::leaf7_ebx, bit)));
  }
}

// The compiler's own detection, as far as it goes, must agree on this machine.
void test_this_cpu() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const Features here = lstmcore::cpu::detect();
  if (can_run("avx2", here)) {
    CHECK(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2"));
  }
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512cd");
  CHECK_EQ(can_run("avx512", here), avx512);
  CHECK(lstmcore::cpu::os_saves_registers(here) || !__builtin_cpu_supports("avx"));
#endif
}

}  // namespace

int main() {
  test_real_cpus();
  test_operating_system();
  test_single_features();
  test_this_cpu();
  return check::result();
}
