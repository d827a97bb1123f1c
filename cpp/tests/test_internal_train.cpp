// Parts of training one by one: random numbers, initial weights, losses, clipping, optimisers, schedules.
#include "base/rng.hpp"
#include "model/init.hpp"
#include "train/clipping.hpp"
#include "train/losses.hpp"
#include "train/optimisers.hpp"
#include "train/schedules.hpp"

#include "check.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <set>
#include <vector>

namespace {

using namespace lstmcore;

void random_numbers() {
  // splitmix64 from seed 1234567 and xoshiro256** seeded with it, worked out with Python's integers.
  CHECK_EQ(bits_at(1234567, 0), 0x599ED017FB08FC85u);
  CHECK_EQ(bits_at(1234567, 1), 0x2C73F08458540FA5u);
  CHECK_EQ(bits_at(0, 0), 0xE220A8397B1DCDAFu);
  CHECK_EQ(mix(7, 3), 0xD81BDB4F58C98CCAu);
  Rng rng(42);
  for (const std::uint64_t expected :
       {0x15780B2E0C2EC716u, 0x6104D9866D113A7Eu, 0xAE17533239E499A1u, 0xECB8AD4703B360A1u}) {
    CHECK_EQ(rng.bits(), expected);
  }
  CHECK_EQ(unit_interval(0), 0.0);
  CHECK_EQ(unit_interval(~std::uint64_t{0}), 1.0 - 0x1p-53);

  std::set<std::uint64_t> seeds;
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    for (std::uint64_t stream = 0; stream < 100; ++stream) seeds.insert(mix(seed, stream));
  }
  CHECK_EQ(seeds.size(), 10000u);

  // Standard errors: mean 1/√n = 0.003, variance √(2/n) = 0.0045, kurtosis √(24/n) = 0.0155; five of them.
  constexpr int n = 100000;
  double sum = 0, square = 0, fourth = 0, uniform = 0;
  for (int k = 0; k < n; ++k) {
    const double z = rng.normal();
    sum += z;
    square += z * z;
    fourth += z * z * z * z;
    const double u = rng.uniform();
    CHECK(u >= 0.0 && u < 1.0);
    uniform += u;
  }
  CHECK_NEAR(sum / n, 0.0, 0.016);
  CHECK_NEAR(square / n, 1.0, 0.023);
  CHECK_NEAR(fourth / n, 3.0, 0.04);
  CHECK_NEAR(uniform / n, 0.5, 0.005);

  std::array<int, 7> counts{};
  for (int k = 0; k < 70000; ++k) ++counts[rng.below(7)];
  double chi_square = 0;
  for (const int count : counts) chi_square += (count - 10000.0) * (count - 10000.0) / 10000.0;
  CHECK(chi_square < 22.5);  // 6 degrees of freedom, p = 0.001
  CHECK_EQ(rng.below(1), 0u);
  const std::uint64_t huge = 0x8000000000000001U;
  for (int k = 0; k < 100; ++k) CHECK(rng.below(huge) < huge);

  // All six orders of three elements.
  std::array<int, 6> orders{};
  for (int k = 0; k < 6000; ++k) {
    std::array<int, 3> items{0, 1, 2};
    rng.shuffle(items.data(), items.size());
    ++orders[2 * static_cast<std::size_t>(items[0]) + (items[1] > items[2] ? 1U : 0U)];
  }
  for (const int count : orders) CHECK(std::abs(count - 1000) < 150);
}

template <class T>
void orthogonal(std::int64_t rows, std::int64_t cols, double tolerance) {
  std::vector<T> q(static_cast<std::size_t>(rows * cols));
  Rng rng(static_cast<std::uint64_t>(rows * 1000 + cols));
  random_orthogonal(rows, cols, rng, q.data());
  // The shorter side is the one that is orthonormal.
  const bool by_rows = rows < cols;
  const std::int64_t vectors = std::min(rows, cols), length = std::max(rows, cols);
  double worst = 0;
  for (std::int64_t a = 0; a < vectors; ++a) {
    for (std::int64_t b = 0; b <= a; ++b) {
      double dot = 0;
      for (std::int64_t k = 0; k < length; ++k) {
        const auto at = [&](std::int64_t v) {
          return static_cast<double>(q[static_cast<std::size_t>(by_rows ? v * cols + k : k * cols + v)]);
        };
        dot += at(a) * at(b);
      }
      worst = std::max(worst, std::abs(dot - (a == b ? 1.0 : 0.0)));
    }
  }
  CHECK_NEAR(worst, 0.0, tolerance);
}

void initial_weights() {
  for (const std::int64_t n : {1, 2, 3, 15, 16, 17, 64, 100}) {
    orthogonal<double>(n, n, 1e-14);
    orthogonal<float>(n, n, 2e-7);
  }
  orthogonal<double>(20, 7, 1e-14);
  orthogonal<double>(7, 20, 1e-14);

  // Uniform over orthogonal matrices: in two dimensions the angle of the first column is uniform, and rotations and
  // reflections are equally likely.
  int positive = 0, rotations = 0, octant = 0;
  constexpr int draws = 4000;
  Rng rng(5);
  for (int k = 0; k < draws; ++k) {
    double q[4];
    random_orthogonal(2, 2, rng, q);
    positive += q[0] > 0 ? 1 : 0;
    rotations += q[0] * q[3] - q[1] * q[2] > 0 ? 1 : 0;
    octant += std::abs(q[0]) < std::abs(q[2]) ? 1 : 0;
  }
  for (const int count : {positive, rotations, octant}) CHECK(std::abs(count - draws / 2) < 160);  // five deviations

  constexpr std::int64_t H = 12, I = 5, K = 3;
  RecurrentConfig config;
  config.input_size = I;
  config.hidden_size = H;
  const StackShape shape(config);
  const auto tensors = [&](bool head) {
    std::vector<TensorInfo> list = {
        {"W_l0", {4 * H, I}, 0}, {"R_l0", {4 * H, H}, 4 * H * I}, {"b_l0", {4 * H}, 4 * H * (I + H)}};
    if (head) {
      list.push_back({"head_W", {K, H}, 4 * H * (I + H + 1)});
      list.push_back({"head_b", {K}, 4 * H * (I + H + 1) + K * H});
    }
    return list;
  };
  const std::size_t count = 4 * H * (I + H + 1) + K * H + K;
  std::vector<double> w(count, 99.0), again(count, -99.0), other(count), bare(count);
  initialise(tensors(true), shape, 3, w.data());
  initialise(tensors(true), shape, 3, again.data());
  initialise(tensors(true), shape, 4, other.data());
  initialise(tensors(false), shape, 3, bare.data());
  CHECK(w == again);
  CHECK(std::equal(bare.begin(), bare.begin() + 4 * H * (I + H + 1), w.begin()));
  std::size_t differing = 0;
  for (std::size_t k = 0; k < count; ++k) differing += w[k] != other[k] ? 1u : 0u;
  CHECK_EQ(differing, static_cast<std::size_t>(4 * H * (I + H) + K * H));  // all but the biases

  const double bound = std::sqrt(6.0 / (I + H)), head_bound = std::sqrt(6.0 / (H + K));
  double largest = 0, head_largest = 0, mean = 0;
  for (std::size_t k = 0; k < 4 * H * I; ++k) {
    largest = std::max(largest, std::abs(w[k]));
    mean += w[k] / (4 * H * I);
  }
  for (std::size_t k = 0; k < K * H; ++k) head_largest = std::max(head_largest, std::abs(w[4 * H * (I + H + 1) + k]));
  CHECK(largest <= bound && largest > 0.97 * bound);
  CHECK(head_largest <= head_bound && head_largest > 0.8 * head_bound);
  CHECK(std::abs(mean) < 5.0 * bound / std::sqrt(3.0 * 4 * H * I));
  for (std::int64_t gate = 0; gate < 4; ++gate) {
    const double* R = w.data() + 4 * H * I + gate * H * H;
    for (std::int64_t a = 0; a < H; ++a) {
      for (std::int64_t b = 0; b < H; ++b) {
        double dot = 0;
        for (std::int64_t k = 0; k < H; ++k) dot += R[a * H + k] * R[b * H + k];
        CHECK_NEAR(dot, a == b ? 1.0 : 0.0, 1e-14);
      }
    }
    if (gate > 0) CHECK(!std::equal(R, R + H * H, R - H * H));
    for (std::int64_t k = 0; k < H; ++k) {
      CHECK_EQ(w[static_cast<std::size_t>(4 * H * (I + H) + gate * H + k)], gate == 1 ? 1.0 : 0.0);
    }
  }
  const std::vector<TensorInfo> unknown = {{"mystery", {2}, 0}};
  CHECK_THROWS_WITH(initialise(unknown, shape, 0, w.data()), std::logic_error, "mystery");
}

// Errors of regression on both sides of δ = 0.7, targets on the scale of the scores.
constexpr std::array<double, 6> scores{0.3, -1.2, 2.0, 0.1, -0.4, 0.9};
constexpr std::array<double, 6> values{0.1, 0.4, 1.7, -2.0, -0.4, 3.0};
constexpr std::array<double, 3> weights{2.0, 0.5, 0.0};

void losses() {
  LossBatch<double> batch;
  batch.count = 3;
  batch.outputs = 2;
  batch.scores = scores.data();
  batch.values = values.data();
  // Errors 0.2, −1.6 | 0.3, 2.1 | 0, −2.1.
  CHECK_NEAR(evaluate_loss<double>(Loss::squared, 1, batch, nullptr).mean(),
             (0.04 + 2.56 + 0.09 + 4.41 + 0.0 + 4.41) / 6, 1e-15);
  CHECK_NEAR(evaluate_loss<double>(Loss::absolute, 1, batch, nullptr).mean(), (0.2 + 1.6 + 0.3 + 2.1 + 0 + 2.1) / 6,
             1e-15);
  CHECK_NEAR(evaluate_loss<double>(Loss::huber, 0.7, batch, nullptr).mean(),
             (0.02 + 0.7 * 1.25 + 0.045 + 0.7 * 1.75 + 0.0 + 0.7 * 1.75) / 6, 1e-15);
  batch.weights = weights.data();
  CHECK_NEAR(evaluate_loss<double>(Loss::squared, 1, batch, nullptr).mean(), (2 * 2.6 / 2 + 0.5 * 4.5 / 2) / 2.5,
             1e-15);
  CHECK_EQ(evaluate_loss<double>(Loss::squared, 1, batch, nullptr).weight, 2.5);

  batch.weights = nullptr;
  const std::vector<double> levels{0.5, 0.9};
  CHECK_NEAR(evaluate_loss<double>(Loss::quantile, 1, batch, nullptr, 0, levels).mean(),
             (0.5 * 0.2 + 0.9 * 1.6 + 0.5 * 0.3 + 0.1 * 2.1 + 0.0 + 0.9 * 2.1) / 6, 1e-15);
  double likelihood = 0.0;
  for (std::size_t k = 0; k < 6; k += 2) {
    const double sigma = 1e-3 + std::log(1 + std::exp(scores[k + 1])), z = (scores[k] - values[k]) / sigma;
    likelihood -= std::log(std::exp(-0.5 * z * z) / (sigma * std::sqrt(2 * std::acos(-1.0)))) / 3;
  }
  CHECK_NEAR(evaluate_loss<double>(Loss::gaussian, 1, batch, nullptr).mean(), likelihood, 1e-14);
  // A raw deviation far below 0 leaves the bound, one far above 0 itself.
  const std::array<double, 4> far{0.0, -800.0, 0.0, 800.0}, zeros{};
  LossBatch<double> bounds{1, 4, far.data(), nullptr, zeros.data(), nullptr};
  CHECK_NEAR(evaluate_loss<double>(Loss::gaussian, 1, bounds, nullptr).mean(),
             0.5 * (std::log(1e-3) + std::log(800.001)) + 0.5 * std::log(2 * std::acos(-1.0)), 1e-14);
  batch.weights = weights.data();

  const std::array<std::int32_t, 3> labels{1, 0, 1};
  batch.labels = labels.data();
  const double first = std::log(1 + std::exp(1.5)), second = std::log(1 + std::exp(-1.9));
  CHECK_NEAR(evaluate_loss<double>(Loss::cross_entropy, 1, batch, nullptr).mean(), (2 * first + 0.5 * second) / 2.5,
             1e-15);

  constexpr std::array<Loss, 6> every_loss{Loss::cross_entropy, Loss::squared,  Loss::absolute,
                                           Loss::huber,         Loss::quantile, Loss::gaussian};
  // Gradients against central differences, every loss and every score.
  for (const Loss loss : every_loss) {
    for (const bool weighted : {false, true}) {
      batch.weights = weighted ? weights.data() : nullptr;
      std::array<double, 6> gradient{}, moved = scores;
      gradient.fill(77.0);
      batch.scores = scores.data();
      evaluate_loss(loss, 0.7, batch, gradient.data(), 0, levels);
      batch.scores = moved.data();
      for (std::size_t k = 0; k < 6; ++k) {
        constexpr double h = 1e-6;
        moved[k] = scores[k] + h;
        const double above = evaluate_loss<double>(loss, 0.7, batch, nullptr, 0, levels).mean();
        moved[k] = scores[k] - h;
        const double below = evaluate_loss<double>(loss, 0.7, batch, nullptr, 0, levels).mean();
        moved[k] = scores[k];
        CHECK_NEAR(gradient[k], (above - below) / (2 * h), 1e-9);
      }
      if (weighted) CHECK(gradient[4] == 0.0 && gradient[5] == 0.0);
    }
  }
  batch.scores = scores.data();

  // Nothing to learn from: loss and gradient are 0.
  const std::array<double, 3> none{};
  batch.weights = none.data();
  std::array<double, 6> gradient{};
  for (const Loss loss : every_loss) {
    gradient.fill(5.0);
    CHECK_EQ(evaluate_loss(loss, 1.0, batch, gradient.data(), 0, levels).mean(), 0.0);
    for (const double g : gradient) CHECK_EQ(g, 0.0);
  }
  // A weight of 0 hides even scores that are not finite; a weight above 0 does not.
  const double inf = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
  const std::array<double, 6> broken{0.3, -1.2, 2.0, 0.1, nan, inf};
  batch.scores = broken.data();
  batch.weights = weights.data();
  for (const Loss loss : every_loss) {
    CHECK(std::isfinite(evaluate_loss(loss, 1.0, batch, gradient.data(), 0, levels).mean()));
    for (const double g : gradient) CHECK(std::isfinite(g));
    batch.weights = nullptr;
    CHECK(!std::isfinite(evaluate_loss(loss, 1.0, batch, gradient.data(), 0, levels).mean()));
    CHECK(!std::isfinite(gradient[4]));
    batch.weights = weights.data();
  }

  // Scores far beyond the range of exp, and a loss far below its precision.
  const std::array<float, 3> extreme{5000.0F, -3000.0F, 5000.0F};
  const std::array<double, 2> sure{50.0, 0.0};
  const std::int32_t zero = 0, one = 1;
  LossBatch<float> wide{1, 3, extreme.data(), &one, nullptr, nullptr};
  std::array<float, 3> slopes{};
  CHECK_NEAR(evaluate_loss(Loss::cross_entropy, 1, wide, slopes.data()).mean(), 8000.0 + std::log(2.0), 1e-14);
  CHECK(slopes[0] == 0.5F && slopes[1] == -1.0F && slopes[2] == 0.5F);
  const LossBatch<double> tiny{1, 2, sure.data(), &zero, nullptr, nullptr};
  CHECK_NEAR(evaluate_loss<double>(Loss::cross_entropy, 1, tiny, nullptr).mean() / std::exp(-50.0), 1.0, 1e-12);
}

void clipping() {
  std::vector<double> x(1000);
  double plain = 0;
  for (std::size_t k = 0; k < x.size(); ++k) {
    x[k] = std::sin(static_cast<double>(k));
    plain += x[k] * x[k];
  }
  CHECK_NEAR(sum_of_squares(x.data(), 1000), plain, 1e-14);
  for (const std::int64_t n : {0, 1, 31, 32, 33}) {
    double few = 0;
    for (std::int64_t k = 0; k < n; ++k) few += x[static_cast<std::size_t>(k)] * x[static_cast<std::size_t>(k)];
    CHECK_NEAR(sum_of_squares(x.data(), n), few, 1e-15);
  }
  std::vector<float> large(200000);
  for (std::size_t k = 0; k < large.size(); ++k) large[k] = static_cast<float>(std::sin(static_cast<double>(k)));
  std::vector<double> partial;
  const double one = sum_of_squares(large.data(), 200000, 1, partial);
  CHECK_EQ(sum_of_squares(large.data(), 200000, 2, partial), one);
  CHECK_EQ(sum_of_squares(large.data(), 200000, 3, partial), one);
  CHECK_NEAR(one, sum_of_squares(large.data(), 200000), 1e-13);

  CHECK_EQ(make_clip<double>(10.0, 0.0, 0.0).scale, 1.0);
  CHECK_EQ(make_clip<double>(0.5, 1.0, 0.0).scale, 1.0);
  CHECK_EQ(make_clip<double>(10.0, 2.0, 0.0).scale, 2.0 / (10.0 + 1e-6));
  CHECK(std::isinf(make_clip<float>(10.0, 2.0, 0.0).limit));
  CHECK_EQ(make_clip<float>(10.0, 2.0, 0.25).limit, 0.25F);
}

using Trajectory = std::vector<std::array<double, 2>>;

/// Three steps from (1, −0.5) on gradients (0.5, −2), (−0.25, 1), (1, 3); a bias is a vector, all else a matrix.
void trajectory(const TrainerConfig& config, const Clip<double>& clip, const char* name, const Trajectory& expected) {
  const bool bias = name[0] == 'b';
  const std::vector<TensorInfo> tensors = {
      {name, bias ? std::vector<std::int64_t>{2} : std::vector<std::int64_t>{1, 2}, 0}};
  Descent<double> optimiser(config, tensors, 2);
  std::array<double, 2> w{1.0, -0.5};
  const Trajectory gradients = {{0.5, -2.0}, {-0.25, 1.0}, {1.0, 3.0}};
  for (std::size_t t = 0; t < 3; ++t) {
    optimiser.update(0.1, clip, w.data(), gradients[t].data());
    CHECK_NEAR(w[0], expected[t][0], 2e-16 * 4);
    CHECK_NEAR(w[1], expected[t][1], 2e-16 * 4);
  }
  CHECK_EQ(optimiser.steps(), 3);
}

void optimisers() {
  TrainerConfig config;
  const Clip<double> off;
  config.solver = Solver::sgd;
  config.momentum = 0.0;
  trajectory(config, off, "W_l0", {{0.95, -0.3}, {0.975, -0.4}, {0.875, -0.7}});
  config.momentum = 0.9;  // velocity 0.5, −2; 0.2, −0.8; 1.18, 2.28
  trajectory(config, off, "W_l0", {{0.95, -0.3}, {0.93, -0.22}, {0.812, -0.448}});
  config.nesterov = true;
  trajectory(config, off, "W_l0", {{0.905, -0.12}, {0.912, -0.148}, {0.7058, -0.6532}});
  // Penalty 0.5: gradients 1, −2.25; 0.2, 0.8875; 1.44, 2.956…
  config.momentum = 0.0;
  config.nesterov = false;
  config.alpha = 0.5;
  trajectory(config, off, "R_l0", {{0.9, -0.275}, {0.88, -0.36125}, {0.736, -0.6431875}});
  trajectory(config, off, "b_l0", {{0.95, -0.3}, {0.975, -0.4}, {0.875, -0.7}});
  config.alpha = 0.0;
  // Halved, then limited to 0.4: 0.25, −0.4; −0.125, 0.4; 0.4, 0.4.
  trajectory(config, {0.5, 0.4}, "W_l0", {{0.975, -0.46}, {0.9875, -0.5}, {0.9475, -0.54}});

  // The rest in 40-digit decimal arithmetic from the papers' equations.
  config.epsilon = 1e-3;
  config.solver = Solver::rmsprop;
  config.rho = 0.9;
  trajectory(config, off, "W_l0",
             {{0.685759664369736856, -0.18427144466177372},
              {0.832337153654696075, -0.33149632956642064},
              {0.551271429603552996, -0.59298017935760800}});
  config.solver = Solver::adam;
  config.beta_1 = 0.8;
  config.beta_2 = 0.95;
  trajectory(config, off, "W_l0",
             {{0.900199600798403193, -0.40004997501249375},
              {0.879007715077842739, -0.37881759341353545},
              {0.810719953189251068, -0.42616482078150845}});
  config.alpha = 0.5;
  trajectory(config, off, "W_l0",
             {{0.900099900099900099, -0.40004442470013327},
              {0.822236129327849139, -0.36683030096996193},
              {0.732936547223904078, -0.40536317646173604}});
  config.solver = Solver::adamw;
  trajectory(config, off, "head_W",
             {{0.850199600798403193, -0.37504997501249375},
              {0.786497735037922580, -0.33506509466291077},
              {0.678885086397434779, -0.36565906729773822}});

  // Which tensors are penalised, and how much.
  const std::vector<TensorInfo> tensors = {
      {"W_l0", {2, 2}, 0}, {"R_l0", {2, 1}, 4}, {"b_l0", {2}, 6}, {"head_W", {1, 2}, 8}, {"head_b", {1}, 10}};
  const std::vector<ParameterRange> ranges = parameter_ranges(tensors);
  CHECK_EQ(ranges.size(), 4u);
  CHECK(ranges[0].begin == 0 && ranges[0].end == 6 && ranges[0].penalised);
  CHECK(ranges[1].begin == 6 && ranges[1].end == 8 && !ranges[1].penalised);
  CHECK(ranges[2].begin == 8 && ranges[2].end == 10 && ranges[2].penalised);
  CHECK(ranges[3].begin == 10 && ranges[3].end == 11 && !ranges[3].penalised);
  std::vector<double> w(11), g(11, 1.0);
  for (std::size_t k = 0; k < 11; ++k) w[k] = static_cast<double>(k);
  config.solver = Solver::adam;
  const Descent<double> penalised(config, tensors, 11);
  CHECK_EQ(penalised.penalty(w.data()), 0.5 * 0.5 * (0 + 1 + 4 + 9 + 16 + 25 + 64 + 81));
  penalised.add_penalty_gradient(w.data(), g.data());
  CHECK(g[5] == 3.5 && g[6] == 1.0 && g[9] == 5.5 && g[10] == 1.0);
  config.solver = Solver::adamw;
  const Descent<double> decoupled(config, tensors, 11);
  CHECK_EQ(decoupled.penalty(w.data()), 0.0);
  decoupled.add_penalty_gradient(w.data(), g.data());
  CHECK_EQ(g[5], 3.5);

  // Any number of threads, bit for bit, over tensors of odd sizes.
  const std::vector<TensorInfo> odd = {{"W_l0", {333, 7}, 0}, {"b_l0", {101}, 2331}, {"R_l0", {13, 77}, 2432}};
  constexpr std::size_t count = 3433;
  for (const Solver solver : {Solver::sgd, Solver::rmsprop, Solver::adam, Solver::adamw}) {
    config.solver = solver;
    config.momentum = 0.9;
    config.nesterov = true;
    std::vector<std::vector<float>> results;
    for (const int threads : {1, 2, 3, 5}) {
      Descent<float> optimiser(config, odd, count);
      std::vector<float> weight(count), gradient(count);
      for (std::size_t k = 0; k < count; ++k) weight[k] = static_cast<float>(std::cos(static_cast<double>(k)));
      for (int t = 0; t < 5; ++t) {
        for (std::size_t k = 0; k < count; ++k)
          gradient[k] = static_cast<float>(std::sin(static_cast<double>(k) + 7.0 * t));
        optimiser.update(0.01, Clip<float>{0.9F, 0.7F}, weight.data(), gradient.data(), threads);
      }
      results.push_back(weight);
    }
    for (const std::vector<float>& result : results) CHECK(result == results.front());
  }
}

void schedules() {
  TrainerConfig config;
  config.learning_rate = 0.8;
  config.epochs = 4;
  config.schedule_every = 2;
  config.schedule_factor = 0.5;
  config.tolerance = 0.01;
  const auto run = [&](Schedule schedule) {
    config.schedule = schedule;
    LearningRate rate(config);
    std::vector<double> rates;
    for (int epoch = 0; epoch < 6; ++epoch) {
      rates.push_back(rate.rate());
      rate.epoch_finished();
    }
    return rates;
  };
  const auto check = [&](Schedule schedule, const std::vector<double>& expected) {
    const std::vector<double> rates = run(schedule);
    for (std::size_t k = 0; k < expected.size(); ++k) CHECK_NEAR(rates[k], expected[k], 1e-15);
  };
  check(Schedule::constant, {0.8, 0.8, 0.8, 0.8, 0.8, 0.8});
  check(Schedule::step, {0.8, 0.8, 0.4, 0.4, 0.2, 0.2});
  const double half = 0.4 * std::sqrt(0.5);  // cos 45° of 0.4
  check(Schedule::cosine, {0.8, 0.4 + half, 0.4, 0.4 - half, 0.4 - half, 0.4 - half});

  config.schedule = Schedule::plateau;
  LearningRate rate(config);
  // Progress: 1.0 (first), 0.98 (by 0.02); 0.975 is within the tolerance of it, and two such reports reduce the rate.
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::vector<std::pair<double, double>> reports = {{1.0, 0.8},  {0.98, 0.8},  {0.975, 0.8}, {0.972, 0.4},
                                                          {0.99, 0.4}, {0.969, 0.4}, {nan, 0.4},   {2.0, 0.2},
                                                          {0.0, 0.2},  {0.0, 0.2}};
  for (const auto& [monitored, expected] : reports) {
    rate.report(monitored);
    rate.epoch_finished();
    CHECK_NEAR(rate.rate(), expected, 1e-15);
  }
  config.schedule = Schedule::constant;
  LearningRate deaf(config);
  for (int k = 0; k < 10; ++k) deaf.report(1.0);
  CHECK_EQ(deaf.rate(), 0.8);
}

}  // namespace

int main() {
  try {
    random_numbers();
    initial_weights();
    losses();
    clipping();
    optimisers();
    schedules();
  } catch (const std::exception& error) {
    check::report(false, __FILE__, __LINE__, error.what());
  }
  return check::result();
}
