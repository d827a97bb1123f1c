// Optimiser through the public API: the steps of Trainer bit for bit, schedules, and what it refuses.
#include "check.hpp"

#include <lstmcore/lstmcore.hpp>

#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

using namespace lstmcore;

namespace {

template <class T>
void same_as_trainer(Dtype dtype, const TrainerConfig& config) {
  ModelConfig network;
  network.recurrent.input_size = 2;
  network.recurrent.hidden_size = 7;
  network.recurrent.dtype = dtype;
  network.recurrent.seed = 5;
  network.activation = Activation::softmax;
  network.outputs = 3;
  Model ours(network), theirs(network);
  constexpr std::int64_t count = 5, steps = 4;
  std::vector<T> numbers(count * steps * 2);
  for (std::size_t k = 0; k < numbers.size(); ++k) numbers[k] = static_cast<T>(std::sin(static_cast<double>(k)));
  std::vector<const void*> data;
  for (std::int64_t n = 0; n < count; ++n) data.push_back(numbers.data() + n * steps * 2);
  const std::vector<std::int64_t> lengths = {4, 3, 1, 4, 2};
  const std::vector<std::int32_t> labels = {0, 1, 2, 1, 0};
  const Sequences x{data.data(), lengths.data(), count, 2};
  Targets y;
  y.labels = labels.data();

  Trainer trainer(theirs, config), gradients(ours, TrainerConfig());
  Optimiser optimiser(config, dtype, ours.tensors());
  CHECK_EQ(optimiser.parameter_count(), ours.parameter_count());
  CHECK(optimiser.dtype() == dtype);
  CHECK_EQ(optimiser.tensors().size(), ours.tensors().size());
  std::vector<T> gradient(static_cast<std::size_t>(ours.parameter_count()));
  for (std::int64_t step = 0; step < 4; ++step) {
    const double loss = gradients.gradient(x, y, gradient.data()) + optimiser.penalty(ours.parameters());
    double square = 0.0;
    for (const T g : gradient) square += static_cast<double>(g) * static_cast<double>(g);
    CHECK_NEAR(optimiser.step(ours.parameters(), gradient.data()), std::sqrt(square), 1e-14);
    ours.parameters_changed();
    CHECK_EQ(trainer.step(x, y), loss);
    CHECK(std::memcmp(ours.parameters(), theirs.parameters(), gradient.size() * sizeof(T)) == 0);
    CHECK_EQ(optimiser.steps(), step + 1);
  }
}

void every_solver() {
  for (const Solver solver : {Solver::sgd, Solver::rmsprop, Solver::adam, Solver::adamw}) {
    TrainerConfig config;
    config.solver = solver;
    config.learning_rate = 0.03;
    config.nesterov = solver == Solver::sgd;
    same_as_trainer<double>(Dtype::float64, config);
    config.alpha = 0.1;
    config.clip_norm = 0.1;
    config.clip_value = 0.02;
    config.max_norm = 0.8;
    config.gradient_noise = 0.05;
    config.seed = 11;
    same_as_trainer<double>(Dtype::float64, config);
    same_as_trainer<float>(Dtype::float32, config);
  }
}

void schedules() {
  TrainerConfig config;
  config.learning_rate = 1.0;
  config.schedule = Schedule::cosine;
  config.epochs = 4;
  const std::vector<TensorInfo> tensors = {{"W", {1, 2}, 0}};
  Optimiser cosine(config, Dtype::float64, tensors);
  for (const double expected : {1.0, 0.5 * (1.0 + std::sqrt(0.5)), 0.5}) {
    CHECK_NEAR(cosine.learning_rate(), expected, 1e-15);
    cosine.epoch_finished();
  }
  config.schedule = Schedule::plateau;
  config.schedule_every = 2;
  Optimiser plateau(config, Dtype::float64, tensors);
  for (int k = 0; k < 3; ++k) plateau.report(1.0);
  CHECK_EQ(plateau.learning_rate(), 0.5);
}

void kernels_are_weights() {
  // Of a kernel all that the first axis counts is one row; peepholes of any shape are none.
  TrainerConfig config;
  config.solver = Solver::sgd;
  config.alpha = 2.0;
  Optimiser penalised(config, Dtype::float32, {{"W", {2, 1, 2}, 0}, {"P_l0", {3, 2, 1}, 4}, {"b", {2}, 10}});
  const std::array<float, 12> w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
  CHECK_EQ(penalised.penalty(w.data()), 1.0 + 4 + 9 + 16);
  config.alpha = 0.0;
  config.max_norm = 1.0;
  Optimiser bounded(config, Dtype::float64, {{"W", {2, 1, 2}, 0}});
  std::array<double, 4> rows = {3, 4, 0.3, 0.4}, zeros = {};
  bounded.step(rows.data(), zeros.data());
  CHECK_NEAR(rows[0], 0.6, 1e-15);
  CHECK_NEAR(rows[1], 0.8, 1e-15);
  CHECK_EQ(rows[2], 0.3);
}

void refusals() {
  const TrainerConfig config;
  const std::vector<TensorInfo> tensors = {{"W", {1, 2}, 0}, {"b", {1}, 2}};
  const auto make = [&](std::vector<TensorInfo> given) { return Optimiser(config, Dtype::float64, std::move(given)); };
  CHECK_THROWS_WITH(make({}), std::invalid_argument, "tensors: expected at least one");
  CHECK_THROWS_WITH(make({{"W", {1, 2}, 0}, {"W", {1}, 2}}), std::invalid_argument, "'W': named twice");
  CHECK_THROWS_WITH(make({{"", {1}, 0}}), std::invalid_argument, "has no name");
  CHECK_THROWS_WITH(make({{"W", {0}, 0}}), std::invalid_argument, "expected extents of at least 1, got 0");
  CHECK_THROWS_WITH(make({{"W", {1, 2}, 0}, {"b", {1}, 3}}), std::invalid_argument, "expected offset 2");
  CHECK_THROWS_WITH(make({{"W", {1LL << 40, 1LL << 40}, 0}}), std::invalid_argument, "can be addressed");
  TrainerConfig wrong;
  wrong.learning_rate = 0.0;
  CHECK_THROWS_WITH(Optimiser(wrong, Dtype::float64, tensors), std::invalid_argument, "learning_rate");

  Optimiser optimiser = make(tensors);
  std::array<double, 3> w = {1, 2, 3}, g = {1, std::numeric_limits<double>::quiet_NaN(), 1};
  CHECK_THROWS_WITH(optimiser.step(nullptr, g.data()), std::invalid_argument, "parameters: expected");
  CHECK_THROWS_WITH(optimiser.step(w.data(), nullptr), std::invalid_argument, "gradient: expected");
  CHECK_THROWS_WITH(optimiser.penalty(nullptr), std::invalid_argument, "parameters: expected");
  CHECK_THROWS_WITH(optimiser.step(w.data(), g.data()), std::runtime_error,
                    "the gradient became NaN or infinite in step 1");
  CHECK(w[0] == 1 && w[1] == 2 && w[2] == 3);
  CHECK_EQ(optimiser.steps(), 0);
}

}  // namespace

int main() {
  every_solver();
  schedules();
  kernels_are_weights();
  refusals();
  return check::result();
}
