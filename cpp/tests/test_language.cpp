// Language models through the public API: embeddings, softmax losses, generation, and what they refuse.
#include "check.hpp"

#include <lstmcore/lstmcore.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

using namespace lstmcore;

namespace {

constexpr std::int64_t V = 11, E = 3, H = 5, R = 250;

template <class T>
std::vector<T> numbers(std::int64_t count, double phase) {
  std::vector<T> result(static_cast<std::size_t>(count));
  for (std::size_t k = 0; k < result.size(); ++k) {
    result[k] = static_cast<T>(std::sin(1.7 * static_cast<double>(k) + phase));
  }
  return result;
}

std::vector<std::int32_t> codes_of(std::int64_t count) {
  std::vector<std::int32_t> codes;
  for (std::int64_t k = 0; k < count; ++k) codes.push_back(static_cast<std::int32_t>(k * k % V));
  return codes;
}

template <class T>
void embeddings(Dtype dtype) {
  const std::vector<T> table = numbers<T>(V * E, 0.0);
  const std::vector<std::int32_t> codes = codes_of(R);
  const Embedding embedding{table.data(), V, E};
  std::vector<T> rows(static_cast<std::size_t>(R * E));
  embed(dtype, embedding, codes.data(), R, rows.data());
  std::vector<T> expected(table.size(), T{0}), found(table.size(), T{1});
  bool same = true;
  for (std::int64_t r = 0; r < R; ++r) {
    for (std::int64_t k = 0; k < E; ++k) {
      const auto from = static_cast<std::size_t>(codes[static_cast<std::size_t>(r)] * E + k);
      same = same && rows[static_cast<std::size_t>(r * E + k)] == table[from];
      expected[from] += rows[static_cast<std::size_t>(r * E + k)];
    }
  }
  CHECK(same);
  embed_backward(dtype, embedding, codes.data(), R, rows.data(), found.data());
  CHECK(found == expected);
}

template <class T>
void losses(Dtype dtype, double tolerance) {
  const std::vector<T> x = numbers<T>(R * H, 0.1), w = numbers<T>(V * H, 0.2), b = numbers<T>(V, 0.3);
  const std::vector<std::int32_t> labels = codes_of(R);
  const DenseLayer layer{w.data(), b.data(), H, V};
  std::vector<double> each(R);
  std::vector<T> dx(x.size()), dw(w.size()), db(b.size());
  const SoftmaxGradient gradient{0.5, dx.data(), dw.data(), db.data()};
  const double total = softmax_loss(dtype, layer, x.data(), R, labels.data(), each.data(), &gradient);
  double sum = 0.0;
  std::vector<double> expected_b(V, 0.0);
  for (std::int64_t r = 0; r < R; ++r) {
    std::vector<double> scores;
    double over = 0.0;
    for (std::int64_t k = 0; k < V; ++k) {
      double score = static_cast<double>(b[static_cast<std::size_t>(k)]);
      for (std::int64_t i = 0; i < H; ++i) {
        score += static_cast<double>(x[static_cast<std::size_t>(r * H + i)]) *
                 static_cast<double>(w[static_cast<std::size_t>(k * H + i)]);
      }
      scores.push_back(score);
      over += std::exp(score);
    }
    const auto label = static_cast<std::size_t>(labels[static_cast<std::size_t>(r)]);
    sum += std::log(over) - scores[label];
    for (std::size_t k = 0; k < V; ++k) expected_b[k] += 0.5 * (std::exp(scores[k]) / over - (k == label ? 1.0 : 0.0));
  }
  CHECK_NEAR(total, sum, tolerance);
  double added = 0.0;
  for (const double loss : each) added += loss;
  CHECK_NEAR(added, total, 1e-14);
  for (std::size_t k = 0; k < V; ++k) CHECK_NEAR(db[k], expected_b[k], 100 * tolerance);
  CHECK_EQ(softmax_loss(dtype, layer, x.data(), R, labels.data(), nullptr, nullptr, 1), total);

  // All symbols as samples, each expected once: the full softmax.
  const std::vector<std::int32_t> all = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
  const std::vector<double> once(V, 0.0), of_labels(R, 0.0);
  std::vector<T> dw2(w.size()), db2(b.size());
  const SoftmaxGradient second{0.5, dx.data(), dw2.data(), db2.data()};
  const SampledSymbols samples{all.data(), V, once.data(), of_labels.data()};
  CHECK_NEAR(sampled_softmax_loss(dtype, layer, x.data(), R, labels.data(), samples, nullptr, &second), total,
             10 * tolerance);
  double worst = 0.0;
  for (std::size_t k = 0; k < w.size(); ++k) worst = std::max(worst, std::abs(static_cast<double>(dw[k] - dw2[k])));
  CHECK(worst < 1000 * tolerance);

  std::vector<T> p(static_cast<std::size_t>(R * V));
  log_probabilities(dtype, {{nullptr, layer}}, x.data(), R, H, p.data());
  double first = 0.0;
  for (std::size_t k = 0; k < V; ++k) first += std::exp(static_cast<double>(p[k]));
  CHECK_NEAR(first, 1.0, 10 * tolerance);
}

struct Writer {
  Writer() : layers(config()), table(numbers<float>(V * E, 0.5)), w(numbers<float>(V * H, 0.6)), b(V) {}

  static RecurrentConfig config() {
    RecurrentConfig config;
    config.input_size = E;
    config.hidden_size = H;
    config.seed = 3;
    return config;
  }
  OutputParts parts() const { return {{nullptr, {w.data(), b.data(), H, V}}}; }

  std::vector<std::vector<std::int32_t>> write(const std::vector<std::int32_t>& first, std::int64_t length,
                                               const SamplingOptions& options, const Cancel& cancel = {}) {
    h.assign(first.size() * H, 0.0F);
    c = h;
    void* const state[] = {h.data(), c.data()};
    return generate(layers, {table.data(), V, E}, parts(), first, state, length, options, cancel);
  }

  Recurrent layers;
  std::vector<float> table, w, b, h, c;
};

void generation() {
  Writer writer;
  SamplingOptions options;
  options.temperature = 0.0;
  const auto texts = writer.write({4, 7}, 20, options);
  CHECK_EQ(texts.size(), 2u);
  CHECK_EQ(texts[0].size(), 20u);

  std::vector<float> h(H, 0.0F), c(H, 0.0F), y(H), p(V);
  void* const state[] = {h.data(), c.data()};
  std::int32_t code = 7;
  std::vector<std::int32_t> expected;
  for (int t = 0; t < 20; ++t) {
    writer.layers.step(writer.table.data() + code * E, 1, state, y.data());
    log_probabilities(Dtype::float32, writer.parts(), y.data(), 1, H, p.data());
    code = static_cast<std::int32_t>(std::max_element(p.begin(), p.end()) - p.begin());
    expected.push_back(code);
  }
  CHECK(texts[1] == expected);
  CHECK(std::equal(h.begin(), h.end(), writer.h.begin() + H));  // the state that is handed back

  options.temperature = 1.0;
  options.seed = 5;
  const auto drawn = writer.write({4, 7}, 50, options);
  CHECK(drawn == writer.write({4, 7}, 50, options));
  options.seed = 6;
  CHECK(drawn != writer.write({4, 7}, 50, options));
  options.forbidden = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
  CHECK(writer.write({4}, 3, options)[0] == std::vector<std::int32_t>({10, 10, 10}));
  options.stops = {{10, 10}};
  CHECK_EQ(writer.write({4}, 9, options)[0].size(), 2u);
  int polls = 0;
  CHECK_THROWS(writer.write({4}, 1'000'000, SamplingOptions(), [&polls] { return ++polls > 1; }), Interrupted);
}

void refusals() {
  Writer writer;
  SamplingOptions options;
  CHECK_THROWS_WITH(writer.write({V}, 1, options), std::invalid_argument, "first[0]: expected a symbol in 0 … 10");
  CHECK_THROWS_WITH(writer.write({}, 1, options), std::invalid_argument, "first: size");
  CHECK_THROWS_WITH(writer.write({0}, -1, options), std::invalid_argument, "length");
  options.top_p = 1.5;
  CHECK_THROWS_WITH(writer.write({0}, 1, options), std::invalid_argument, "top_p: expected a number in (0, 1]");
  options.top_p = 1.0;
  options.temperature = -1.0;
  CHECK_THROWS_WITH(writer.write({0}, 1, options), std::invalid_argument, "temperature");
  const auto with_parts = [&writer](const OutputParts& parts) {
    std::vector<float> state(H);
    void* const states[] = {state.data(), state.data()};
    return generate(writer.layers, {writer.table.data(), V, E}, parts, {0}, states, 1, SamplingOptions());
  };
  CHECK_THROWS_WITH(with_parts({}), std::invalid_argument, "output: expected at least one part");
  CHECK_THROWS_WITH(with_parts({{nullptr, {writer.w.data(), writer.b.data(), H, V - 1}}}), std::invalid_argument,
                    "expected 11 symbols");
  CHECK_THROWS_WITH(with_parts({{nullptr, {writer.w.data(), writer.b.data(), H - 1, V}}}), std::invalid_argument,
                    "output[0]: expected 5 inputs");
  const DenseLayer layer{writer.w.data(), writer.b.data(), H, V};
  const std::int32_t label = 0;
  const std::int32_t twice[] = {3, 3};
  const double zeros[] = {0.0, 0.0};
  CHECK_THROWS_WITH(softmax_loss(Dtype::float32, layer, writer.w.data(), 0, &label, nullptr, nullptr),
                    std::invalid_argument, "rows: expected at least 1, got 0");
  CHECK_THROWS_WITH(softmax_loss(Dtype::float32, layer, writer.w.data(), 1, nullptr, nullptr, nullptr),
                    std::invalid_argument, "labels: expected values, got null");
  CHECK_THROWS_WITH(sampled_softmax_loss(Dtype::float32, layer, writer.w.data(), 1, &label, {twice, 2, zeros, zeros},
                                         nullptr, nullptr),
                    std::invalid_argument, "samples[1]: the symbol 3 is named twice");
}

}  // namespace

int main() {
  embeddings<float>(Dtype::float32);
  embeddings<double>(Dtype::float64);
  losses<float>(Dtype::float32, 1e-6);
  losses<double>(Dtype::float64, 1e-14);
  generation();
  refusals();
  return check::result();
}
