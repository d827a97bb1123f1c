// What this machine can do at best: multiply-adds in registers, and reading memory of several sizes.
//
//     ceilings THREADS SECONDS
//
// Prints JSON: {"gflops": all threads together, "read": [[bytes of one thread, GB/s of all threads], …]}. The best of
// several turns counts: a ceiling is what was reached once.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <new>
#include <thread>
#include <vector>

namespace {

#if defined(__AVX512F__)
constexpr std::size_t kBytes = 64;
#elif defined(__AVX__)
constexpr std::size_t kBytes = 32;
#else
constexpr std::size_t kBytes = 16;
#endif
constexpr std::size_t kWidth = kBytes / sizeof(float);
typedef float Vector __attribute__((vector_size(kBytes)));

/// Enough sums that the latency of one is hidden by the others, and few enough for 16 registers.
constexpr std::size_t kSums = 12;

/// Keeps the compiler from dropping what nobody reads.
std::atomic<float> sink{0.0F};

void keep(const Vector (&sums)[kSums]) {
  float total = 0.0F;
  for (const Vector& sum : sums) {
    for (std::size_t k = 0; k < kWidth; ++k) total += sum[k];
  }
  sink.store(total, std::memory_order_relaxed);
}

constexpr std::int64_t kRounds = 20'000;

/// Multiply-adds, as operations: two for each element.
double compute() {
  Vector sums[kSums], factor, addend;
  for (std::size_t k = 0; k < kWidth; ++k) {
    factor[k] = 0.999F, addend[k] = 0.001F;
    for (std::size_t s = 0; s < kSums; ++s) sums[s][k] = static_cast<float>(s);  // or the compiler sees twelve alike
  }
  for (std::int64_t round = 0; round < kRounds; ++round) {
    for (Vector& sum : sums) sum = sum * factor + addend;
  }
  keep(sums);
  return 2.0 * static_cast<double>(kRounds) * static_cast<double>(kSums * kWidth);
}

/// Reads the whole of it `times` times, with a multiply-add for each element read, as a matrix-vector product does.
double read(const float* data, std::size_t count, std::int64_t times) {
  Vector sums[kSums] = {}, factor;
  for (std::size_t k = 0; k < kWidth; ++k) factor[k] = 0.5F;
  const std::size_t turn = kSums * kWidth;
  for (std::int64_t round = 0; round < times; ++round) {
    for (std::size_t k = 0; k + turn <= count; k += turn) {
      for (std::size_t s = 0; s < kSums; ++s) {
        sums[s] += factor * *reinterpret_cast<const Vector*>(data + k + s * kWidth);
      }
    }
    asm volatile("" : : : "memory");
  }
  keep(sums);
  return static_cast<double>(count / turn * turn * sizeof(float)) * static_cast<double>(times);
}

/// Work per second of all threads, the best of several turns. work(thread) returns how much it did.
double best_rate(int threads, double seconds, const std::function<double(int)>& work) {
  using Clock = std::chrono::steady_clock;
  double best = 0.0;
  const auto begin = Clock::now();
  do {
    std::atomic<int> ready{0};
    std::vector<double> amounts(static_cast<std::size_t>(threads)), spent(amounts);
    std::vector<std::thread> team;
    for (int id = 0; id < threads; ++id) {
      team.emplace_back([&, id] {
        ready.fetch_add(1);
        while (ready.load() < threads) {
        }
        const auto start = Clock::now();
        double amount = 0.0;
        while (Clock::now() - start < std::chrono::milliseconds(5)) amount += work(id);
        spent[static_cast<std::size_t>(id)] = std::chrono::duration<double>(Clock::now() - start).count();
        amounts[static_cast<std::size_t>(id)] = amount;
      });
    }
    for (std::thread& member : team) member.join();
    double rate = 0.0;
    for (std::size_t id = 0; id < amounts.size(); ++id) rate += amounts[id] / spent[id];
    best = std::max(best, rate);
  } while (std::chrono::duration<double>(Clock::now() - begin).count() < seconds);
  return best;
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 1;
  const double seconds = argc > 2 ? std::atof(argv[2]) : 0.2;
  if (threads < 1 || threads > 1024 || !(seconds > 0.0 && seconds < 60.0)) {
    std::fprintf(stderr, "usage: ceilings THREADS SECONDS, with 1 to 1024 threads and up to 60 seconds a figure\n");
    return 2;
  }
  std::printf("{\"gflops\": %.4g, \"read\": [", 1e-9 * best_rate(threads, seconds, [](int) { return compute(); }));
  const std::size_t sizes[] = {16u << 10, 64u << 10, 256u << 10, 1u << 20, 4u << 20, 16u << 20, 64u << 20};
  const char* separator = "";
  for (const std::size_t bytes : sizes) {
    const std::size_t count = bytes / sizeof(float);
    std::vector<float*> buffers;
    for (int id = 0; id < threads; ++id) {
      buffers.push_back(static_cast<float*>(::operator new(bytes, std::align_val_t{64})));
      std::fill_n(buffers.back(), count, 1.0F);
    }
    const std::int64_t times = std::max<std::int64_t>(1, static_cast<std::int64_t>((4u << 20) / bytes));
    const double rate =
        best_rate(threads, seconds, [&](int id) { return read(buffers[static_cast<std::size_t>(id)], count, times); });
    for (float* buffer : buffers) ::operator delete(buffer, std::align_val_t{64});
    std::printf("%s[%zu, %.4g]", separator, bytes, 1e-9 * rate);
    separator = ", ";
  }
  std::printf("]}\n");
  return 0;
}
