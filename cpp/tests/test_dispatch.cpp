// Loading an engine: a wrong LSTMCORE_ISA is refused and may be corrected, and the first use may come from many
// threads.
#include "check.hpp"

#include <lstmcore/build_info.hpp>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <thread>
#include <vector>

namespace {

void test_refused_then_corrected() {
  setenv("LSTMCORE_ISA", "pentium", 1);
  CHECK_THROWS_WITH(lstmcore::build_info(), std::runtime_error, "LSTMCORE_ISA=pentium");
  CHECK_THROWS_WITH(lstmcore::build_info(), std::runtime_error, "Engines that can run here: ");
  setenv("LSTMCORE_ISA", "", 1);  // empty means unset
}

void test_first_use_from_many_threads() {
  std::atomic<int> waiting{0};
  std::atomic<int> same{0};
  constexpr int count = 8;
  std::vector<std::thread> threads;
  for (int k = 0; k < count; ++k) {
    threads.emplace_back([&] {
      ++waiting;
      while (waiting.load() < count) std::this_thread::yield();
      const lstmcore::BuildInfo info = lstmcore::build_info();
      if (!info.isas_usable.empty() && info.isa == info.isas_usable.back()) ++same;
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK_EQ(same.load(), count);
}

void test_usable_are_built() {
  const lstmcore::BuildInfo info = lstmcore::build_info();
  for (const std::string& name : info.isas_usable) {
    CHECK(std::find(info.isas_built.begin(), info.isas_built.end(), name) != info.isas_built.end());
  }
  CHECK(!info.version.empty());
}

}  // namespace

int main() {
  test_refused_then_corrected();
  test_first_use_from_many_threads();
  test_usable_are_built();
  return check::result();
}
