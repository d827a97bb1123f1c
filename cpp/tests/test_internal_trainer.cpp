// The training loop on a network small enough to work out by hand, and how it shares sequences among batches.
#include "base/rng.hpp"
#include "train/trainer.hpp"

#include "check.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <limits>
#include <new>
#include <set>
#include <vector>

namespace {
// Counted in allocated(), off elsewhere.
std::atomic<std::int64_t> allocations{0};
}  // namespace

// Not inlined: GCC would see free() meet operator new, and warn.
__attribute__((noinline)) void* operator new(std::size_t size) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  if (void* memory = std::malloc(size == 0 ? 1 : size)) return memory;
  throw std::bad_alloc();
}
__attribute__((noinline)) void operator delete(void* memory) noexcept { std::free(memory); }
__attribute__((noinline)) void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace {

using namespace lstmcore;

/// scores = head_W · (mean of x over time) + head_b, with everything a test may want to see or break.
template <class T>
class LinearNetwork {
 public:
  using Scalar = T;
  struct Workspace {
    std::vector<T> means;  // [N, I]
  };

  LinearNetwork(std::int64_t features, std::int64_t outputs) : features_(features) {
    config_.outputs = outputs;
    config_.recurrent.input_size = features;
    tensors_ = {{"head_W", {outputs, features}, 0}, {"head_b", {outputs}, outputs * features}};
    parameters_.assign(static_cast<std::size_t>(parameter_count()), T(0));
    mean_.assign(static_cast<std::size_t>(outputs), 0.0);
    scale_.assign(static_cast<std::size_t>(outputs), 1.0);
  }

  const ModelConfig& config() const { return config_; }
  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  std::int64_t parameter_count() const { return config_.outputs * (features_ + 1); }
  T* parameters() { return parameters_.data(); }
  void parameters_changed() { ++updates; }
  const std::vector<double>& output_mean() const { return mean_; }
  const std::vector<double>& output_scale() const { return scale_; }
  void set_output(std::vector<double> mean, std::vector<double> scale) {
    mean_ = std::move(mean);
    scale_ = std::move(scale);
  }

  bool forward(const Sequences& x, Workspace& workspace, T* scores, bool training, std::uint64_t seed, std::int64_t,
               int n_threads, CancelToken* cancel) const {
    const std::int64_t I = features_, K = config_.outputs;
    if (training) {
      dropout_seeds.push_back(seed);
      threads_asked = n_threads;
      batch_sizes.push_back(x.count);
      if (cancel != nullptr && cancel->poll()) return false;
    }
    workspace.means.assign(static_cast<std::size_t>(x.count * I), T(0));
    for (std::int64_t n = 0; n < x.count; ++n) {
      const auto* data = static_cast<const T*>(x.data[n]);
      T* mean = workspace.means.data() + n * I;
      for (std::int64_t t = 0; t < x.lengths[n]; ++t) {
        for (std::int64_t i = 0; i < I; ++i) mean[i] += data[t * I + i] / static_cast<T>(x.lengths[n]);
      }
      for (std::int64_t k = 0; k < K; ++k) {
        T score = parameters_[static_cast<std::size_t>(K * I + k)];
        for (std::int64_t i = 0; i < I; ++i) score += parameters_[static_cast<std::size_t>(k * I + i)] * mean[i];
        scores[n * K + k] = score;
      }
    }
    if (training && poison_scores) scores[0] = std::numeric_limits<T>::quiet_NaN();
    return true;
  }

  bool backward(Workspace& workspace, const T* dscores, T* gradient, std::int64_t, int, CancelToken*) const {
    const std::int64_t I = features_, K = config_.outputs;
    const auto N = static_cast<std::int64_t>(workspace.means.size()) / I;
    std::fill_n(gradient, parameter_count(), T(0));
    for (std::int64_t n = 0; n < N; ++n) {
      for (std::int64_t k = 0; k < K; ++k) {
        for (std::int64_t i = 0; i < I; ++i)
          gradient[k * I + i] += dscores[n * K + k] * workspace.means[static_cast<std::size_t>(n * I + i)];
        gradient[K * I + k] += dscores[n * K + k];
      }
    }
    if (poison_gradient) gradient[0] = std::numeric_limits<T>::infinity();
    return --backwards_until_cancelled != 0;
  }

  int updates = 0;
  bool poison_scores = false, poison_gradient = false;
  mutable int backwards_until_cancelled = -1;
  mutable int threads_asked = -1;
  mutable std::vector<std::uint64_t> dropout_seeds;
  mutable std::vector<std::int64_t> batch_sizes;

 private:
  std::int64_t features_;
  ModelConfig config_;
  std::vector<TensorInfo> tensors_;
  std::vector<T> parameters_;
  std::vector<double> mean_, scale_;
};

/// N random sequences of I features with labels, values and weights.
template <class T>
struct Data {
  std::vector<std::vector<T>> values;
  std::vector<const void*> pointers;
  std::vector<std::int64_t> lengths;
  std::vector<std::int32_t> labels;
  std::vector<double> targets, weights;
  std::int64_t features;

  Data(std::int64_t N, std::int64_t I, std::int64_t K, std::uint64_t seed) : features(I) {
    Rng rng(seed);
    for (std::int64_t n = 0; n < N; ++n) {
      lengths.push_back(1 + static_cast<std::int64_t>(rng.below(9)));
      std::vector<T> sequence;
      sequence.reserve(static_cast<std::size_t>(lengths.back() * I));
      for (std::int64_t k = 0; k < lengths.back() * I; ++k) sequence.push_back(static_cast<T>(rng.normal()));
      values.push_back(std::move(sequence));
      labels.push_back(static_cast<std::int32_t>(rng.below(static_cast<std::uint64_t>(K))));
      for (std::int64_t k = 0; k < K; ++k) targets.push_back(5.0 + 3.0 * rng.normal());
      weights.push_back(0.5 + rng.uniform());
    }
    for (const auto& sequence : values) pointers.push_back(sequence.data());
  }
  Sequences x() const { return {pointers.data(), lengths.data(), static_cast<std::int64_t>(values.size()), features}; }
  Targets classes(bool weighted = false) const { return {labels.data(), nullptr, weighted ? weights.data() : nullptr}; }
  Targets numbers(bool weighted = false) const {
    return {nullptr, targets.data(), weighted ? weights.data() : nullptr};
  }
};

template <class T>
std::vector<T> copy_of(LinearNetwork<T>& network) {
  return {network.parameters(), network.parameters() + network.parameter_count()};
}

template <class T>
void randomise(LinearNetwork<T>& network, std::uint64_t seed) {
  Rng rng(seed);
  for (std::int64_t k = 0; k < network.parameter_count(); ++k) network.parameters()[k] = static_cast<T>(rng.normal());
}

void gradient_of_the_whole_loss() {
  const Data<double> data(11, 3, 2, 1);
  for (const Loss loss : {Loss::cross_entropy, Loss::squared, Loss::absolute, Loss::huber}) {
    for (const Solver solver : {Solver::adam, Solver::adamw}) {
      LinearNetwork<double> network(3, 2);
      network.set_output({5.0, 4.0}, {0.3, 0.5});
      randomise(network, 2);
      TrainerConfig config;
      config.loss = loss;
      config.solver = solver;
      config.alpha = 0.1;
      config.clip_norm = 1e-3;  // of no effect here
      TrainerLoop<LinearNetwork<double>> trainer(network, config);
      const Targets y = loss == Loss::cross_entropy ? data.classes(true) : data.numbers(true);
      std::vector<double> gradient(8), ignored(8);
      trainer.gradient(data.x(), y, gradient.data(), nullptr);
      for (std::size_t k = 0; k < 8; ++k) {
        constexpr double h = 1e-6;
        const double kept = network.parameters()[k];
        network.parameters()[k] = kept + h;
        const double above = trainer.gradient(data.x(), y, ignored.data(), nullptr);
        network.parameters()[k] = kept - h;
        const double below = trainer.gradient(data.x(), y, ignored.data(), nullptr);
        network.parameters()[k] = kept;
        CHECK_NEAR(gradient[k], (above - below) / (2 * h), 1e-8);
      }
      // The loss without the penalty is that of evaluate(), in however many batches.
      const double whole = trainer.gradient(data.x(), y, ignored.data(), nullptr);
      double penalty = 0;
      for (std::size_t k = 0; k < 6; ++k) penalty += 0.05 * network.parameters()[k] * network.parameters()[k];
      if (solver == Solver::adamw) penalty = 0;
      CHECK_NEAR(trainer.evaluate(data.x(), y), whole - penalty, 1e-14);
      config.batch_size = 4;
      const TrainerLoop<LinearNetwork<double>> by_fours(network, config);
      CHECK_NEAR(by_fours.evaluate(data.x(), y), whole - penalty, 1e-14);
      CHECK_EQ(network.updates, 0);
      CHECK_NEAR(trainer.step(data.x(), y, nullptr), whole, 1e-15);
      CHECK_EQ(network.updates, 1);
    }
  }
}

void steps_by_hand() {
  // One feature, one output, w = b = 0; targets 3 and 7 on a scale of (y − 5)·½ = −1, 1; x = 1 and −2.
  const std::array<double, 1> a{1.0}, b{-2.0};
  const std::array<const void*, 2> pointers{a.data(), b.data()};
  const std::array<std::int64_t, 2> lengths{1, 1};
  const std::array<double, 2> targets{3.0, 7.0};
  const Sequences x{pointers.data(), lengths.data(), 2, 1};
  const Targets y{nullptr, targets.data(), nullptr};
  TrainerConfig config;
  config.loss = Loss::squared;
  config.solver = Solver::sgd;
  config.momentum = 0.0;
  config.learning_rate = 0.1;
  config.alpha = 0.5;
  LinearNetwork<double> network(1, 1);
  network.set_output({5.0}, {0.5});
  {
    // Loss (1 + 1)/2; dw = (2·1·1 + 2·(−1)·(−2))/2 = 3, db = 0. Then w = −0.3: errors 0.7, −0.4.
    TrainerLoop<LinearNetwork<double>> trainer(network, config);
    CHECK_NEAR(trainer.step(x, y, nullptr), 1.0, 1e-15);
    CHECK_NEAR(network.parameters()[0], -0.3, 1e-15);
    CHECK_NEAR(network.parameters()[1], 0.0, 1e-15);
    CHECK_NEAR(trainer.step(x, y, nullptr), (0.49 + 0.16) / 2 + 0.25 * 0.09, 1e-15);
    // dw = (2·0.7·1 + 2·(−0.4)(−2))/2 + ½·(−0.3) = 1.35; db = 0.3.
    CHECK_NEAR(network.parameters()[0], -0.435, 1e-15);
    CHECK_NEAR(network.parameters()[1], -0.03, 1e-15);
  }
  std::fill_n(network.parameters(), 2, 0.0);
  config.clip_norm = 1.5;
  config.clip_value = 1.0;
  {
    TrainerLoop<LinearNetwork<double>> trainer(network, config);  // 3 → 1.5 → 1
    trainer.step(x, y, nullptr);
    CHECK_NEAR(network.parameters()[0], -0.1, 1e-15);
  }
  std::fill_n(network.parameters(), 2, 0.0);
  config.clip_value = 0.0;
  {
    TrainerLoop<LinearNetwork<double>> trainer(network, config);
    trainer.step(x, y, nullptr);
    CHECK_NEAR(network.parameters()[0], -0.1 * 3 * 1.5 / (3 + 1e-6), 1e-15);
  }
  // An epoch in two batches of one, in order, is the same as two steps.
  config.clip_norm = 0.0;
  config.batch_size = 1;
  config.shuffle = false;
  std::fill_n(network.parameters(), 2, 0.0);
  TrainerLoop<LinearNetwork<double>> trainer(network, config);
  const EpochResult result = trainer.run_epoch(x, y, nullptr);
  // First batch: loss 1, dw = 2, db = 2 → w = b = −0.2. Second: score 0.2, error −0.8.
  CHECK_NEAR(result.loss, (1.0 + 0.64 + 0.25 * 0.04) / 2, 1e-15);
  CHECK_NEAR(network.parameters()[0], -0.2 - 0.1 * (2 * -0.8 * -2 + 0.5 * -0.2), 1e-15);
  CHECK_NEAR(network.parameters()[1], -0.2 - 0.1 * (2 * -0.8), 1e-15);
  CHECK(result.sequences == 2 && !result.interrupted && result.learning_rate == 0.1);
}

void epochs() {
  const Data<float> data(200, 4, 3, 3);
  TrainerConfig config;
  config.learning_rate = 0.02;
  config.batch_size = 16;
  config.schedule = Schedule::step;
  config.schedule_every = 3;
  config.seed = 12;
  config.n_threads = 2;
  const auto fit = [&](std::uint64_t seed, bool weighted) {
    config.seed = seed;
    LinearNetwork<float> network(4, 3);
    TrainerLoop<LinearNetwork<float>> trainer(network, config);
    double before = trainer.evaluate(data.x(), data.classes(weighted));
    CHECK_NEAR(before, std::log(3.0), 1e-14);
    for (int epoch = 0; epoch < 6; ++epoch) {
      const EpochResult result = trainer.run_epoch(data.x(), data.classes(weighted), nullptr);
      CHECK_EQ(result.learning_rate, epoch < 3 ? 0.02 : 0.01);
      CHECK_EQ(result.sequences, 200);
      // Evaluation in between disturbs nothing.
      if (epoch % 2 == 0) trainer.evaluate(data.x(), data.classes(weighted));
    }
    const double after = trainer.evaluate(data.x(), data.classes(weighted));
    CHECK(after < before - 0.01);
    CHECK_EQ(network.threads_asked, 2);
    CHECK_EQ(network.updates, 6 * 13);
    const std::set<std::uint64_t> masks(network.dropout_seeds.begin(), network.dropout_seeds.end());
    CHECK_EQ(masks.size(), 6u * 13u);  // every batch its own
    return copy_of(network);
  };
  const std::vector<float> first = fit(12, false);
  CHECK(fit(12, false) == first);
  CHECK(fit(13, false) != first);
  CHECK(fit(12, true) != first);

  // Weights of 0 and absent sequences are the same fit.
  Data<float> halved(60, 4, 3, 3), kept(0, 4, 3, 3);
  for (std::size_t n = 0; n < 60; ++n) {
    halved.weights[n] = n % 2 == 0 ? 0.0 : 2.0;
    if (n % 2 == 0) continue;
    kept.pointers.push_back(halved.pointers[n]);
    kept.values.emplace_back();
    kept.lengths.push_back(halved.lengths[n]);
    kept.labels.push_back(halved.labels[n]);
    kept.weights.push_back(2.0);
  }
  LinearNetwork<float> one(4, 3), two(4, 3);
  TrainerLoop<LinearNetwork<float>> with_zeros(one, config), without(two, config);
  for (int epoch = 0; epoch < 3; ++epoch) {
    const EpochResult a = with_zeros.run_epoch(halved.x(), halved.classes(true), nullptr);
    const EpochResult b = without.run_epoch(kept.x(), kept.classes(true), nullptr);
    CHECK(a.loss == b.loss && a.sequences == 30 && b.sequences == 30);
  }
  CHECK(copy_of(one) == copy_of(two));
  CHECK_EQ(with_zeros.evaluate(halved.x(), halved.classes(true)), without.evaluate(kept.x(), kept.classes(true)));
  std::fill(halved.weights.begin(), halved.weights.end(), 0.0);
  const EpochResult nothing = with_zeros.run_epoch(halved.x(), halved.classes(true), nullptr);
  CHECK(nothing.loss == 0.0 && nothing.sequences == 0 && !nothing.interrupted);
  CHECK(copy_of(one) == copy_of(two));
  CHECK_EQ(with_zeros.evaluate(halved.x(), halved.classes(true)), 0.0);

  // The plateau schedule through the loop.
  config.schedule = Schedule::plateau;
  config.schedule_every = 1;
  TrainerLoop<LinearNetwork<float>> watched(one, config);
  watched.report(1.0);
  watched.report(1.0);
  CHECK_EQ(watched.run_epoch(data.x(), data.classes(), nullptr).learning_rate, 0.01);
}

void interruptions() {
  const Data<double> data(100, 4, 3, 4);
  TrainerConfig config;
  config.batch_size = 10;
  LinearNetwork<double> network(4, 3), reference(4, 3);
  TrainerLoop<LinearNetwork<double>> trainer(network, config), uncut(reference, config);

  // Stopped in the backward pass of the fourth batch: the weights are those after three.
  network.backwards_until_cancelled = 4;
  const EpochResult result = trainer.run_epoch(data.x(), data.classes(), nullptr);
  CHECK(result.interrupted && result.sequences == 30 && std::isfinite(result.loss) && result.loss > 0.0);
  CHECK_EQ(network.updates, 3);
  reference.backwards_until_cancelled = 4;
  uncut.run_epoch(data.x(), data.classes(), nullptr);
  CHECK(copy_of(network) == copy_of(reference));
  // It goes on afterwards, in a new order.
  const std::vector<std::int64_t> sizes = network.batch_sizes;
  CHECK(!trainer.run_epoch(data.x(), data.classes(), nullptr).interrupted);
  CHECK_EQ(network.updates, 13);

  // A callback that says stop at once, and one that never does.
  int asked = 0;
  const Cancel at_once = [&] { return ++asked > 0; };
  const Cancel never = [] { return false; };
  const std::vector<double> before = copy_of(network);
  const EpochResult stopped = trainer.run_epoch(data.x(), data.classes(), at_once);
  CHECK(stopped.interrupted && stopped.sequences == 0 && stopped.loss == 0.0);
  CHECK_EQ(asked, 1);
  CHECK_THROWS(trainer.step(data.x(), data.classes(), at_once), Interrupted);
  std::vector<double> gradient(15);
  CHECK_THROWS(trainer.gradient(data.x(), data.classes(), gradient.data(), at_once), Interrupted);
  CHECK(copy_of(network) == before);
  CHECK(!trainer.run_epoch(data.x(), data.classes(), never).interrupted);

  // An interrupted epoch does not move the schedule.
  config.schedule = Schedule::step;
  config.schedule_every = 1;
  TrainerLoop<LinearNetwork<double>> scheduled(network, config);
  CHECK_EQ(scheduled.run_epoch(data.x(), data.classes(), at_once).learning_rate, 1e-3);
  CHECK_EQ(scheduled.run_epoch(data.x(), data.classes(), nullptr).learning_rate, 1e-3);
  CHECK_EQ(scheduled.run_epoch(data.x(), data.classes(), nullptr).learning_rate, 5e-4);
}

void divergence() {
  const Data<float> data(40, 4, 3, 5);
  TrainerConfig config;
  config.batch_size = 10;
  LinearNetwork<float> network(4, 3);
  TrainerLoop<LinearNetwork<float>> trainer(network, config);
  trainer.run_epoch(data.x(), data.classes(), nullptr);
  const std::vector<float> before = copy_of(network);
  network.poison_scores = true;
  CHECK_THROWS_WITH(trainer.run_epoch(data.x(), data.classes(), nullptr), std::runtime_error,
                    "the loss became NaN or infinite in epoch 2;");
  CHECK_THROWS_WITH(trainer.step(data.x(), data.classes(), nullptr), std::runtime_error, "set clip_norm");
  network.poison_scores = false;
  network.poison_gradient = true;
  CHECK_THROWS_WITH(trainer.run_epoch(data.x(), data.classes(), nullptr), std::runtime_error,
                    "the gradient became NaN or infinite in epoch 2;");
  CHECK(copy_of(network) == before);
  config.clip_norm = 3.0;
  TrainerLoop<LinearNetwork<float>> clipped(network, config);
  CHECK_THROWS_WITH(clipped.run_epoch(data.x(), data.classes(), nullptr), std::runtime_error, "clip_norm (3 now)");
  network.poison_gradient = false;
  CHECK(std::isfinite(trainer.run_epoch(data.x(), data.classes(), nullptr).loss));
}

void allocated() {
  // Only the loop's own: the network's workspace and its records are warm, or have room.
  for (const bool classes : {true, false}) {
    const Data<float> data(500, 4, 3, 6);
    TrainerConfig config;
    config.loss = classes ? Loss::cross_entropy : Loss::huber;
    config.alpha = 0.01;
    config.clip_norm = 1.0;
    LinearNetwork<float> network(4, 3);
    network.dropout_seeds.reserve(1000);
    network.batch_sizes.reserve(1000);
    TrainerLoop<LinearNetwork<float>> trainer(network, config);
    const Targets y = classes ? data.classes(true) : data.numbers(true);
    trainer.run_epoch(data.x(), y, nullptr);
    trainer.evaluate(data.x(), y);
    const std::int64_t before = allocations.load();
    for (int epoch = 0; epoch < 10; ++epoch) {
      trainer.run_epoch(data.x(), y, nullptr);
      trainer.evaluate(data.x(), y);
    }
    CHECK_EQ(allocations.load() - before, 0);
  }
}

std::vector<std::vector<std::int64_t>> batches_of(const BatchPlan& plan) {
  std::vector<std::vector<std::int64_t>> batches;
  batches.reserve(static_cast<std::size_t>(plan.size()));
  for (std::int64_t k = 0; k < plan.size(); ++k) batches.emplace_back(plan[k].members, plan[k].members + plan[k].count);
  return batches;
}

void batches() {
  constexpr std::int64_t N = 1000, size = 32;
  std::vector<std::int64_t> lengths;
  lengths.reserve(N);
  Rng rng(9);
  for (std::int64_t n = 0; n < N; ++n) lengths.push_back(1 + static_cast<std::int64_t>(rng.below(200)));

  BatchPlan plan;
  plan.prepare(lengths.data(), nullptr, 70, size, false, 1);
  CHECK_EQ(plan.size(), 3);
  CHECK(plan[0].count == 32 && plan[1].count == 32 && plan[2].count == 6);
  std::int64_t next = 0;
  for (const auto& batch : batches_of(plan)) {
    for (const std::int64_t member : batch) CHECK_EQ(member, next++);
  }

  plan.prepare(lengths.data(), nullptr, N, size, true, 1);
  CHECK_EQ(plan.size(), 32);
  const auto first = batches_of(plan);
  std::set<std::int64_t> seen;
  double spread = 0;
  std::vector<double> means;
  std::size_t short_batches = 0;
  for (const auto& batch : first) {
    seen.insert(batch.begin(), batch.end());
    short_batches += batch.size() == 8 ? 1u : 0u;
    CHECK(batch.size() == 32 || batch.size() == 8);
    const auto shorter = [&](std::int64_t a, std::int64_t b) {
      return lengths[static_cast<std::size_t>(a)] < lengths[static_cast<std::size_t>(b)];
    };
    const auto [low, high] = std::minmax_element(batch.begin(), batch.end(), shorter);
    spread +=
        static_cast<double>(lengths[static_cast<std::size_t>(*high)] - lengths[static_cast<std::size_t>(*low)]) / 32;
    means.push_back(static_cast<double>(lengths[static_cast<std::size_t>(batch[0])]));
  }
  CHECK_EQ(seen.size(), static_cast<std::size_t>(N));
  CHECK_EQ(short_batches, 1u);
  CHECK(spread < 200.0 / 3);                                 // unsorted batches spread over nearly all 200
  CHECK(!std::is_sorted(means.begin(), means.begin() + 8));  // batches come in any order of length
  CHECK(!std::is_sorted(means.rbegin(), means.rbegin() + 8));

  plan.prepare(lengths.data(), nullptr, N, size, true, 1);
  CHECK(batches_of(plan) == first);
  plan.prepare(lengths.data(), nullptr, N, size, true, 2);
  CHECK(batches_of(plan) != first);

  // Weight 0 is as good as absent.
  std::vector<double> weights(N, 1.5);
  std::vector<std::int64_t> kept, kept_lengths;
  for (std::int64_t n = 0; n < N; ++n) {
    if (n % 3 == 0) {
      weights[static_cast<std::size_t>(n)] = 0.0;
    } else {
      kept.push_back(n);
      kept_lengths.push_back(lengths[static_cast<std::size_t>(n)]);
    }
  }
  plan.prepare(lengths.data(), weights.data(), N, size, true, 1);
  const auto weighted = batches_of(plan);
  CHECK_EQ(plan.members(), static_cast<std::int64_t>(kept.size()));
  plan.prepare(kept_lengths.data(), nullptr, static_cast<std::int64_t>(kept.size()), size, true, 1);
  auto without = batches_of(plan);
  for (auto& batch : without) {
    for (auto& member : batch) member = kept[static_cast<std::size_t>(member)];
  }
  CHECK(weighted == without);

  // The corners: no sequence, one, and batches larger than the data.
  for (const bool shuffle : {false, true}) {
    plan.prepare(lengths.data(), nullptr, 0, size, shuffle, 1);
    CHECK_EQ(plan.size(), 0);
    plan.prepare(lengths.data(), nullptr, 1, size, shuffle, 1);
    CHECK(plan.size() == 1 && plan[0].count == 1 && plan[0].members[0] == 0);
    plan.prepare(lengths.data(), nullptr, 5, std::numeric_limits<std::int64_t>::max(), shuffle, 1);
    CHECK(plan.size() == 1 && plan[0].count == 5);
  }
}

}  // namespace

int main() {
  try {
    batches();
    gradient_of_the_whole_loss();
    steps_by_hand();
    epochs();
    interruptions();
    divergence();
    allocated();
  } catch (const std::exception& error) {
    check::report(false, __FILE__, __LINE__, error.what());
  }
  return check::result();
}
