// The public C++ API: streaming equals whole sequences, allocates nothing, survives many threads; training lowers the
// loss.
#include "check.hpp"

#include <lstmcore/lstmcore.hpp>

#include <atomic>
#include <cstdlib>
#include <new>
#include <random>
#include <thread>
#include <vector>

namespace {

std::atomic<bool> counting{false};
std::atomic<long> allocations{0};

void* counted(std::size_t size, std::size_t alignment) {
  if (counting.load(std::memory_order_relaxed)) allocations.fetch_add(1, std::memory_order_relaxed);
  void* p = nullptr;
  if (alignment <= alignof(std::max_align_t)) {
    p = std::malloc(size == 0 ? 1 : size);
  } else if (posix_memalign(&p, alignment, size == 0 ? 1 : size) != 0) {
    p = nullptr;
  }
  if (p == nullptr) std::abort();  // a test has no use for bad_alloc
  return p;
}

}  // namespace

// Every allocation of the program and of the libraries it loads passes here.
__attribute__((noinline)) void* operator new(std::size_t size) { return counted(size, 1); }
__attribute__((noinline)) void* operator new[](std::size_t size) { return counted(size, 1); }
__attribute__((noinline)) void* operator new(std::size_t size, std::align_val_t a) {
  return counted(size, static_cast<std::size_t>(a));
}
__attribute__((noinline)) void* operator new[](std::size_t size, std::align_val_t a) {
  return counted(size, static_cast<std::size_t>(a));
}
__attribute__((noinline)) void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  return counted(size, 1);
}
__attribute__((noinline)) void* operator new[](std::size_t size, const std::nothrow_t&) noexcept {
  return counted(size, 1);
}
__attribute__((noinline)) void operator delete(void* p) noexcept { std::free(p); }
__attribute__((noinline)) void operator delete[](void* p) noexcept { std::free(p); }
__attribute__((noinline)) void operator delete(void* p, std::size_t) noexcept { std::free(p); }
__attribute__((noinline)) void operator delete[](void* p, std::size_t) noexcept { std::free(p); }
__attribute__((noinline)) void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
__attribute__((noinline)) void operator delete[](void* p, std::align_val_t) noexcept { std::free(p); }
__attribute__((noinline)) void operator delete(void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }
__attribute__((noinline)) void operator delete[](void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }

namespace {

using namespace lstmcore;

/// Sequences of different lengths with their pointers.
struct Batch {
  std::vector<std::vector<float>> values;
  std::vector<const void*> data;
  std::vector<std::int64_t> lengths;
  std::int64_t features;

  Batch(std::int64_t count, std::int64_t longest, std::int64_t features_, unsigned seed) : features(features_) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (std::int64_t n = 0; n < count; ++n) {
      const std::int64_t length = 1 + static_cast<std::int64_t>(random() % static_cast<unsigned>(longest));
      lengths.push_back(length);
      values.emplace_back(static_cast<std::size_t>(length * features));
      for (float& v : values.back()) v = normal(random);
    }
    for (const auto& v : values) data.push_back(v.data());
  }
  Sequences view() const { return {data.data(), lengths.data(), static_cast<std::int64_t>(data.size()), features}; }
};

ModelConfig model_config(const char* cell, Pooling pooling, Activation activation, std::int64_t outputs) {
  ModelConfig config;
  config.recurrent.cell = cell;
  config.recurrent.input_size = 5;
  config.recurrent.hidden_size = 19;
  config.recurrent.num_layers = 2;
  config.recurrent.seed = 3;
  config.pooling = pooling;
  config.activation = activation;
  config.outputs = outputs;
  return config;
}

void streaming_equals_predict_without_allocation() {
  for (const CellInfo& cell : cells()) {
    for (Pooling pooling : {Pooling::last, Pooling::mean, Pooling::max, Pooling::attention, Pooling::hopfield}) {
      for (Activation activation : {Activation::identity, Activation::softmax}) {
        ModelConfig config = model_config(cell.name.c_str(), pooling, activation, 3);
        if (pooling == Pooling::hopfield) {
          config.pooling_updates = 0;
          config.pooling_patterns = 2;
        }
        if (activation == Activation::softmax) config.head_sizes = {6, 11};
        Model model(config);
        const Batch batch(4, 40, 5, 11);
        std::vector<float> whole(4 * 3);
        model.predict(batch.view(), whole.data());
        StreamState state = model.make_state();
        for (std::size_t n = 0; n < 4; ++n) {
          std::vector<float> out(3);
          state.reset();
          allocations = 0;
          counting = true;
          for (std::int64_t t = 0; t < batch.lengths[n]; ++t)
            model.step(batch.values[n].data() + t * 5, state, out.data());
          counting = false;
          CHECK_EQ(allocations.load(), 0L);
          for (std::size_t k = 0; k < 3; ++k) CHECK_NEAR(out[k], whole[n * 3 + k], 2e-6);
        }
      }
    }
  }
}

void one_output_of_a_stream_is_that_of_predict() {
  for (const Dtype dtype : {Dtype::float32, Dtype::float64}) {
    for (const std::int64_t hidden : {1, 8, 19, 70}) {
      ModelConfig config = model_config("lstm", Pooling::last, Activation::identity, 1);
      config.recurrent.hidden_size = hidden;
      config.recurrent.dtype = dtype;
      const Model model(config);
      const auto run = [&](auto zero) {
        using T = decltype(zero);
        std::mt19937 random(7);
        std::normal_distribution<T> normal;
        std::vector<T> x(9 * 5);
        for (T& value : x) value = normal(random);
        const void* data = x.data();
        const std::int64_t length = 9;
        T whole, out = 0;
        model.predict({&data, &length, 1, 5}, &whole);
        StreamState state = model.make_state();
        for (std::int64_t t = 0; t < length; ++t) model.step(x.data() + t * 5, state, &out);
        CHECK_EQ(out, whole);
      };
      dtype == Dtype::float32 ? run(0.0F) : run(0.0);
    }
  }
}

void weights_may_change_until_they_are_settled() {
  RecurrentConfig config;
  config.input_size = 3;
  config.hidden_size = 10;
  Recurrent made(config);
  Recurrent layer(std::move(made));
  const std::vector<float> x{0.5F, -1.0F, 2.0F};
  const auto step = [&] {
    std::vector<float> h(10), c(10), y(10);
    void* state[] = {h.data(), c.data()};
    layer.step(x.data(), 1, state, y.data());
    return y;
  };
  const auto write = [&layer](float value) { *static_cast<float*>(layer.parameters()) = value; };
  auto* weights = static_cast<float*>(layer.parameters());
  weights[0] = 1.0F;
  const std::vector<float> first = step();
  weights[0] = 2.0F;
  const std::vector<float> second = step();
  CHECK(second != first);
  weights[0] = 3.0F;
  layer.parameters_settled();
  const std::vector<float> third = step();  // written before that, unseen so far
  CHECK(third != second);
  CHECK(step() == third);
  write(3.0F);
  CHECK(step() == third);
  write(2.0F);
  CHECK(step() == second);
  layer.parameters_settled();
  CHECK(step() == second);
  write(1.0F);
  layer.parameters_settled();
  CHECK(step() == first);

  std::vector<float> h(10), c(10), y(10);
  void* state[] = {h.data(), c.data()};
  allocations = 0;
  counting = true;
  for (int k = 0; k < 3; ++k) layer.step(x.data(), 1, state, y.data());
  counting = false;
  CHECK_EQ(allocations.load(), 0L);
}

void many_threads_predict_on_one_model() {
  const ModelConfig config = model_config("lstm", Pooling::mean, Activation::softmax, 4);
  const Model model(config);
  const Batch batch(33, 60, 5, 5);
  std::vector<float> expected(33 * 4);
  model.predict(batch.view(), expected.data(), 1);
  std::vector<std::vector<float>> found(8, std::vector<float>(33 * 4));
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < found.size(); ++i) {
    threads.emplace_back([&, i] {
      for (int repeat = 0; repeat < 5; ++repeat)
        model.predict(batch.view(), found[i].data(), 1 + static_cast<int>(i % 3));
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& values : found) CHECK(values == expected);
}

/// Same weights, bit for bit, for any number of threads.
void training_does_not_depend_on_threads() {
  std::vector<std::vector<float>> weights;
  for (int n_threads : {1, 2, 3}) {
    ModelConfig config = model_config("lstm", Pooling::max, Activation::softmax, 3);
    config.recurrent.bidirectional = true;
    config.recurrent.hidden_size = 64;
    config.recurrent.dropout = 0.2;
    Model model(config);
    TrainerConfig training;
    training.n_threads = n_threads;
    training.clip_norm = 1.0;
    training.batch_size = 16;
    Trainer trainer(model, training);
    const Batch batch(48, 50, 5, 7);
    std::vector<std::int32_t> labels;
    for (std::size_t n = 0; n < 48; ++n) labels.push_back(batch.values[n][0] > 0 ? 1 : batch.values[n][1] > 0 ? 2 : 0);
    Targets targets;
    targets.labels = labels.data();
    const double first = trainer.evaluate(batch.view(), targets);
    for (int epoch = 0; epoch < 4; ++epoch) trainer.run_epoch(batch.view(), targets);
    CHECK(trainer.evaluate(batch.view(), targets) < first);
    const auto* w = static_cast<const float*>(model.parameters());
    weights.emplace_back(w, w + model.parameter_count());
  }
  CHECK(weights[0] == weights[1]);
  CHECK(weights[0] == weights[2]);
}

/// Forward, backward and a gradient step by hand.
void training_by_hand() {
  RecurrentConfig config;
  config.input_size = 5;
  config.hidden_size = 12;
  config.dtype = Dtype::float32;
  Recurrent layer(config);
  const Batch batch(6, 20, 5, 9);
  std::vector<std::vector<float>> y, dy;
  std::vector<void*> out;
  std::vector<const void*> slopes;
  for (std::int64_t length : batch.lengths) {
    y.emplace_back(static_cast<std::size_t>(length * 12));
    dy.emplace_back(y.back().size());
  }
  for (std::size_t n = 0; n < y.size(); ++n) {
    out.push_back(y[n].data());
    slopes.push_back(dy[n].data());
  }
  std::vector<float> gradient(static_cast<std::size_t>(layer.parameter_count()));
  Tape tape;
  double before = 0;
  double loss = 0;
  for (int step = 0; step < 30; ++step) {
    layer.forward(batch.view(), nullptr, out.data(), nullptr, &tape);
    loss = 0;
    for (std::size_t n = 0; n < y.size(); ++n) {
      for (std::size_t i = 0; i < y[n].size(); ++i) {
        dy[n][i] = y[n][i] - 0.25F;
        loss += 0.5 * static_cast<double>(dy[n][i] * dy[n][i]);
      }
    }
    if (step == 0) before = loss;
    layer.backward(tape, slopes.data(), nullptr, nullptr, nullptr, gradient.data());
    auto* w = static_cast<float*>(layer.parameters());
    for (std::size_t i = 0; i < gradient.size(); ++i) w[i] -= 0.01F * gradient[i];
  }
  CHECK(loss < 0.5 * before);
  CHECK_THROWS_WITH(layer.backward(tape, slopes.data(), nullptr, nullptr, nullptr, gradient.data()),
                    std::invalid_argument, "used up");
}

void bad_arguments_are_named() {
  RecurrentConfig config;
  config.input_size = 3;
  config.hidden_size = 0;
  CHECK_THROWS_WITH(Recurrent{config}, std::invalid_argument, "hidden_size");
  config.hidden_size = 4;
  config.cell = "gurgle";
  CHECK_THROWS_WITH(Recurrent{config}, std::invalid_argument, "gurgle");
  config.cell = "lstm";
  config.cell_options["nonlinearity"] = std::string("relu");
  CHECK_THROWS_WITH(Recurrent{config}, std::invalid_argument, "no option 'nonlinearity'");
  config.cell = "elman";
  config.cell_options["nonlinearity"] = std::string("cube");
  CHECK_THROWS_WITH(Recurrent{config}, std::invalid_argument, "tanh, relu");
  config.cell_options.clear();
  const Recurrent layer(config);
  const Batch batch(2, 5, 4, 1);
  std::vector<float> y(64);
  std::vector<void*> out{y.data(), y.data()};
  CHECK_THROWS_WITH(layer.forward(batch.view(), nullptr, out.data(), nullptr), std::invalid_argument,
                    "expected 3 features, got 4");
  Tape tape;
  CHECK_THROWS_WITH(layer.backward(tape, nullptr, nullptr, nullptr, nullptr, y.data()), std::invalid_argument, "empty");
}

void masked_weights_stay_zero() {
  Model model(model_config("lstm", Pooling::last, Activation::identity, 1));
  TrainerConfig training;
  training.loss = Loss::squared;
  Trainer trainer(model, training);
  const Batch batch(10, 6, 5, 2);
  const std::vector<double> values(10, 1.0);
  Targets targets;
  targets.values = values.data();
  const auto count = static_cast<std::size_t>(model.parameter_count());
  const auto* w = static_cast<const float*>(model.parameters());
  std::vector<std::uint8_t> mask(count, 1);
  for (std::size_t k = 0; k < count; k += 3) mask[k] = 0;
  trainer.set_mask(mask);
  trainer.step(batch.view(), targets);
  bool zeros = true;
  for (std::size_t k = 0; k < count; k += 3) zeros = zeros && w[k] == 0.0F;
  CHECK(zeros);
  CHECK_THROWS_WITH(trainer.set_mask({1, 0}), std::invalid_argument, "mask: expected one entry for each of");
  trainer.set_mask({});
  trainer.step(batch.view(), targets);
  CHECK(w[0] != 0.0F);
}

void cancelling_leaves_the_weights_of_the_last_batch() {
  Model model(model_config("lstm", Pooling::last, Activation::identity, 1));
  Trainer trainer(model, [] {
    TrainerConfig training;
    training.loss = Loss::squared;
    return training;
  }());
  const Batch batch(40, 30, 5, 2);
  const std::vector<double> values(40, 1.0);
  Targets targets;
  targets.values = values.data();
  const auto* w = static_cast<const float*>(model.parameters());
  const std::vector<float> before(w, w + model.parameter_count());
  const EpochResult result = trainer.run_epoch(batch.view(), targets, [] { return true; });
  CHECK(result.interrupted);
  CHECK(before == std::vector<float>(w, w + model.parameter_count()));
  CHECK_THROWS(trainer.step(batch.view(), targets, [] { return true; }), Interrupted);
}

}  // namespace

int main() {
  streaming_equals_predict_without_allocation();
  one_output_of_a_stream_is_that_of_predict();
  weights_may_change_until_they_are_settled();
  many_threads_predict_on_one_model();
  training_does_not_depend_on_threads();
  training_by_hand();
  bad_arguments_are_named();
  masked_weights_stay_zero();
  cancelling_leaves_the_weights_of_the_last_batch();
  return check::result();
}
