// CRF, CTC and the dense layer through the public API: against sums over every path, finite differences, plain loops.
#include "check.hpp"

#include <lstmcore/lstmcore.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <map>
#include <vector>

using namespace lstmcore;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

double& at(std::vector<double>& values, std::int64_t k) { return values[static_cast<std::size_t>(k)]; }
double at(const std::vector<double>& values, std::int64_t k) { return values[static_cast<std::size_t>(k)]; }

/// Numbers in (−1, 1) without a pattern that a test could lean on.
std::vector<double> numbers(std::int64_t count, double phase) {
  std::vector<double> result(static_cast<std::size_t>(count));
  for (std::size_t k = 0; k < result.size(); ++k) result[k] = std::sin(12.9898 * static_cast<double>(k) + phase);
  return result;
}

double log_sum(const std::vector<double>& values) {
  const double top = *std::max_element(values.begin(), values.end());
  if (std::isinf(top)) return top;
  double sum = 0.0;
  for (const double value : values) sum += std::exp(value - top);
  return top + std::log(sum);
}

/// Calls visit(path) for each of K^T paths of labels.
template <class Visit>
void every_path(std::int64_t T, std::int64_t K, Visit visit) {
  std::vector<std::int32_t> path(static_cast<std::size_t>(T), 0);
  for (;;) {
    visit(path);
    std::size_t t = 0;
    while (t < path.size() && ++path[t] == K) path[t++] = 0;
    if (t == path.size()) return;
  }
}

// --- CRF ------------------------------------------------------------------------------------------------------------

struct Chain {
  static constexpr std::int64_t K = 3;
  std::vector<std::int64_t> lengths = {4, 1, 3};
  std::vector<double> emissions = numbers(8 * K, 0.3);
  std::vector<double> transitions = numbers(K * K, 1.1), start = numbers(K, 2.2), end = numbers(K, 3.3);
  std::vector<std::int32_t> labels = {0, 2, 1, 1, 2, 1, 0, 0};

  std::vector<const void*> rows() const {
    std::vector<const void*> found;
    std::int64_t first = 0;
    for (const std::int64_t length : lengths) {
      found.push_back(emissions.data() + first * K);
      first += length;
    }
    return found;
  }
  CrfScores scores() const { return {transitions.data(), start.data(), end.data()}; }

  double score(std::int64_t n, const std::vector<std::int32_t>& path) const {
    const double* const x = static_cast<const double*>(rows()[static_cast<std::size_t>(n)]);
    double total = at(start, path.front()) + at(end, path.back());
    for (std::size_t t = 0; t < path.size(); ++t) {
      total += x[static_cast<std::int64_t>(t) * K + path[t]];
      if (t > 0) total += at(transitions, path[t - 1] * K + path[t]);
    }
    return total;
  }
  std::vector<double> losses(const std::vector<double>* weights = nullptr, int n_threads = 1) const {
    std::vector<double> found(lengths.size());
    const auto data = rows();
    crf_loss(Dtype::float64, {data.data(), lengths.data(), 3, K}, scores(), labels.data(),
             weights == nullptr ? nullptr : weights->data(), found.data(), nullptr, n_threads);
    return found;
  }
  double loss(const std::vector<double>* weights = nullptr) const {
    double sum = 0.0;
    for (const double value : losses(weights)) sum += value;
    return sum;
  }
};

void chain_against_all_paths() {
  Chain chain;
  at(chain.transitions, 2 * Chain::K) = -infinity;  // 0 may not follow 2
  const auto data = chain.rows();
  const Sequences x{data.data(), chain.lengths.data(), 3, Chain::K};
  const std::vector<double> losses = chain.losses();
  std::vector<double> marginals(8 * Chain::K), partition(3), best(3);
  std::vector<void*> out;
  for (std::int64_t first = 0, n = 0; n < 3; first += chain.lengths[static_cast<std::size_t>(n++)]) {
    out.push_back(marginals.data() + first * Chain::K);
  }
  std::vector<std::int32_t> labels(8);
  crf_marginals(Dtype::float64, x, chain.scores(), out.data(), partition.data(), 2);
  crf_decode(Dtype::float64, x, chain.scores(), labels.data(), best.data(), 2);
  std::int64_t first = 0;
  for (std::int64_t n = 0; n < 3; ++n) {
    const std::int64_t T = chain.lengths[static_cast<std::size_t>(n)];
    std::vector<double> all;
    std::vector<std::int32_t> winner;
    double top = -infinity;
    every_path(T, Chain::K, [&](const std::vector<std::int32_t>& path) {
      all.push_back(chain.score(n, path));
      if (all.back() > top) top = all.back(), winner = path;
    });
    const double whole = log_sum(all);
    const auto begin = chain.labels.begin() + first;
    CHECK_NEAR(at(losses, n), whole - chain.score(n, {begin, begin + T}), 1e-13);
    CHECK_NEAR(at(partition, n), whole, 1e-13);
    CHECK_NEAR(at(best, n), top, 1e-13);
    for (std::int64_t t = 0; t < T; ++t) {
      CHECK_EQ(labels[static_cast<std::size_t>(first + t)], winner[static_cast<std::size_t>(t)]);
      for (std::int32_t k = 0; k < Chain::K; ++k) {
        double share = 0.0;
        every_path(T, Chain::K, [&](const std::vector<std::int32_t>& path) {
          if (path[static_cast<std::size_t>(t)] == k) share += std::exp(chain.score(n, path) - whole);
        });
        CHECK_NEAR(at(marginals, (first + t) * Chain::K + k), share, 1e-13);
      }
    }
    first += T;
  }
}

void chain_gradient() {
  Chain chain;
  const std::vector<double> weights = {1.0, 0.5, 0.0, 2.0, 1.5, 0.7, 1.0, 0.3};
  std::vector<double> d_emissions(8 * Chain::K), d_transitions(9), d_start(3), d_end(3), losses(3);
  std::vector<double> other = d_emissions;
  for (const int threads : {1, 3}) {
    std::vector<double>& target = threads == 1 ? d_emissions : other;
    std::vector<void*> out = {target.data(), target.data() + 4 * Chain::K, target.data() + 5 * Chain::K};
    const CrfGradient gradient{out.data(), d_transitions.data(), d_start.data(), d_end.data()};
    const auto data = chain.rows();
    crf_loss(Dtype::float64, {data.data(), chain.lengths.data(), 3, Chain::K}, chain.scores(), chain.labels.data(),
             weights.data(), losses.data(), &gradient, threads);
  }
  CHECK(d_emissions == other);
  const std::array<std::pair<std::vector<double>*, const std::vector<double>*>, 4> parts = {
      {{&chain.emissions, &d_emissions},
       {&chain.transitions, &d_transitions},
       {&chain.start, &d_start},
       {&chain.end, &d_end}}};
  for (const auto& [values, slopes] : parts) {
    for (std::size_t k = 0; k < values->size(); ++k) {
      const double kept = (*values)[k], h = 1e-5;
      (*values)[k] = kept + h;
      const double above = chain.loss(&weights);
      (*values)[k] = kept - h;
      const double below = chain.loss(&weights);
      (*values)[k] = kept;
      CHECK_NEAR((*slopes)[k], (above - below) / (2 * h), 1e-8);
    }
  }
}

void chain_refuses() {
  Chain chain;
  chain.labels[3] = 3;
  CHECK_THROWS_WITH(chain.losses(), std::invalid_argument, "label");
  chain = Chain();
  at(chain.transitions, 0 * Chain::K + 2) = -infinity;  // the first two labels
  CHECK_THROWS_WITH(chain.losses(), std::invalid_argument, "forbid");
  chain = Chain();
  at(chain.transitions, 4) = std::nan("");
  CHECK_THROWS(chain.losses(), std::invalid_argument);
  chain = Chain();
  const std::vector<double> weights = {1.0, -1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0};
  CHECK_THROWS_WITH(chain.losses(&weights), std::invalid_argument, "weight");
  chain.lengths[1] = 0;
  CHECK_THROWS(chain.losses(), std::invalid_argument);
}

// --- CTC ------------------------------------------------------------------------------------------------------------

struct Alignment {
  static constexpr std::int64_t K = 3, T = 5, blank = 1;
  std::vector<double> logits = numbers(T * K, 0.7);
  std::vector<std::int32_t> labels = {2, 2};

  double loss(std::vector<double>* gradient = nullptr) const {
    const void* data = logits.data();
    const std::int64_t length = T, count = static_cast<std::int64_t>(labels.size());
    void* out = gradient == nullptr ? nullptr : gradient->data();
    double found = 0.0;
    ctc_loss(Dtype::float64, {&data, &length, 1, K}, labels.data(), &count, blank, nullptr, &found,
             gradient == nullptr ? nullptr : &out, 1);
    return found;
  }

  /// log p of every label sequence, from all alignments.
  std::map<std::vector<std::int32_t>, double> likelihoods() const {
    std::vector<double> norm;
    for (std::int64_t t = 0; t < T; ++t)
      norm.push_back(log_sum({logits.begin() + t * K, logits.begin() + (t + 1) * K}));
    std::map<std::vector<std::int32_t>, std::vector<double>> found;
    every_path(T, K, [&](const std::vector<std::int32_t>& path) {
      std::vector<std::int32_t> read;
      double score = 0.0;
      for (std::size_t t = 0; t < path.size(); ++t) {
        score += logits[t * K + static_cast<std::size_t>(path[t])] - norm[t];
        if (path[t] != blank && (t == 0 || path[t - 1] != path[t])) read.push_back(path[t]);
      }
      found[read].push_back(score);
    });
    std::map<std::vector<std::int32_t>, double> sums;
    for (const auto& [read, scores] : found) sums[read] = log_sum(scores);
    return sums;
  }
};

void alignments_against_all_paths() {
  Alignment task;
  const auto all = task.likelihoods();
  for (const auto& [read, score] : all) {
    task.labels = read;
    std::vector<double> gradient(task.logits.size());
    CHECK_NEAR(task.loss(&gradient), -score, 1e-13);
    for (std::size_t k = 0; k < task.logits.size(); ++k) {
      const double kept = task.logits[k], h = 1e-5;
      task.logits[k] = kept + h;
      const double above = task.loss();
      task.logits[k] = kept - h;
      const double below = task.loss();
      task.logits[k] = kept;
      CHECK_NEAR(gradient[k], (above - below) / (2 * h), 1e-8);
    }
  }

  const void* data = task.logits.data();
  const std::int64_t length = Alignment::T;
  const Sequences x{&data, &length, 1, Alignment::K};
  const auto found = ctc_beam(Dtype::float64, x, Alignment::blank, 1000);
  CHECK_EQ(found.size(), std::size_t{1});
  CHECK_EQ(found[0].size(), all.size());
  for (std::size_t k = 0; k < found[0].size(); ++k) {
    const auto place = all.find(found[0][k].labels);
    CHECK(place != all.end());
    if (place != all.end()) CHECK_NEAR(found[0][k].score, place->second, 1e-12);
    if (k > 0) CHECK(found[0][k - 1].score >= found[0][k].score);
  }

  // A callback that wants nothing but one label, and one that throws.
  const auto favoured =
      ctc_beam(Dtype::float64, x, Alignment::blank, 1000,
               [](const std::int32_t*, std::int64_t, std::int32_t next) { return next == 0 ? 9.0 : -50.0; });
  for (const std::int32_t label : favoured[0][0].labels) CHECK_EQ(label, 0);
  CHECK_EQ(favoured[0][0].labels.size(), std::size_t{3});  // as many as five steps can hold
  CHECK_THROWS_WITH(
      ctc_beam(Dtype::float64, x, Alignment::blank, 2,
               [](const std::int32_t*, std::int64_t, std::int32_t) -> double { throw std::runtime_error("no score"); }),
      std::runtime_error, "no score");

  std::array<std::int32_t, Alignment::T> labels{};
  std::int64_t count = -1;
  ctc_greedy(Dtype::float64, x, Alignment::blank, labels.data(), &count);
  std::vector<std::int32_t> expected;
  std::int64_t last = -1;
  for (std::int64_t t = 0; t < Alignment::T; ++t) {
    const auto row = task.logits.begin() + t * Alignment::K;
    const std::int64_t top = std::max_element(row, row + Alignment::K) - row;
    if (top != Alignment::blank && top != last) expected.push_back(static_cast<std::int32_t>(top));
    last = top;
  }
  CHECK_EQ(count, static_cast<std::int64_t>(expected.size()));
  CHECK(std::equal(expected.begin(), expected.end(), labels.begin()));
}

void alignments_refuse() {
  Alignment task;
  task.labels = {2, 2, 2};  // with the blanks between: just fits
  CHECK(std::isfinite(task.loss()));
  task.labels = {2, 2, 2, 0};
  CHECK_THROWS(task.loss(), std::invalid_argument);
  task.labels = {Alignment::blank};
  CHECK_THROWS_WITH(task.loss(), std::invalid_argument, "blank");
  task.labels = {3};
  CHECK_THROWS(task.loss(), std::invalid_argument);
  const void* data = task.logits.data();
  const std::int64_t length = Alignment::T;
  CHECK_THROWS_WITH(ctc_beam(Dtype::float64, {&data, &length, 1, Alignment::K}, Alignment::blank, 0),
                    std::invalid_argument, "width");
  CHECK_THROWS_WITH(ctc_beam(Dtype::float64, {&data, &length, 1, Alignment::K}, 3, 2), std::invalid_argument, "blank");
}

// --- dense ----------------------------------------------------------------------------------------------------------

void dense_against_loops(std::int64_t rows, std::int64_t inputs, std::int64_t outputs) {
  const auto x = numbers(rows * inputs, 0.1), w = numbers(outputs * inputs, 0.2), b = numbers(outputs, 0.4);
  const auto dy = numbers(rows * outputs, 0.9);
  const DenseLayer layer{w.data(), b.data(), inputs, outputs};
  std::vector<double> y(dy.size()), y_shared(dy.size());
  dense_forward(Dtype::float64, layer, x.data(), rows, y.data(), 1);
  dense_forward(Dtype::float64, layer, x.data(), rows, y_shared.data(), 3);
  CHECK(y == y_shared);
  std::vector<double> dx(x.size()), dw(w.size()), db(b.size()), dx_shared(x.size()), dw_shared(w.size()),
      db_shared(b.size());
  dense_backward(Dtype::float64, layer, x.data(), rows, dy.data(), dx.data(), dw.data(), db.data(), 1);
  dense_backward(Dtype::float64, layer, x.data(), rows, dy.data(), dx_shared.data(), dw_shared.data(), db_shared.data(),
                 3);
  CHECK(dx == dx_shared && dw == dw_shared && db == db_shared);
  dense_backward(Dtype::float64, layer, x.data(), rows, dy.data(), nullptr, dw_shared.data(), db_shared.data(), 2);
  CHECK(dw == dw_shared && db == db_shared);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t k = 0; k < outputs; ++k) {
      double sum = at(b, k);
      for (std::int64_t i = 0; i < inputs; ++i) sum += at(x, r * inputs + i) * at(w, k * inputs + i);
      CHECK_NEAR(at(y, r * outputs + k), sum, 1e-12);
    }
    for (std::int64_t i = 0; i < inputs; ++i) {
      double sum = 0.0;
      for (std::int64_t k = 0; k < outputs; ++k) sum += at(dy, r * outputs + k) * at(w, k * inputs + i);
      CHECK_NEAR(at(dx, r * inputs + i), sum, 1e-12);
    }
  }
  for (std::int64_t k = 0; k < outputs; ++k) {
    double bias = 0.0;
    for (std::int64_t r = 0; r < rows; ++r) bias += at(dy, r * outputs + k);
    CHECK_NEAR(at(db, k), bias, 1e-12);
    for (std::int64_t i = 0; i < inputs; ++i) {
      double sum = 0.0;
      for (std::int64_t r = 0; r < rows; ++r) sum += at(dy, r * outputs + k) * at(x, r * inputs + i);
      CHECK_NEAR(at(dw, k * inputs + i), sum, 1e-12);
    }
  }
}

void dense_refuses() {
  const double x = 1.0;
  double y = 0.0;
  CHECK_THROWS(dense_forward(Dtype::float64, {&x, &x, 0, 1}, &x, 1, &y), std::invalid_argument);
  CHECK_THROWS(dense_forward(Dtype::float64, {&x, &x, 1, -1}, &x, 1, &y), std::invalid_argument);
  CHECK_THROWS(dense_forward(Dtype::float64, {nullptr, &x, 1, 1}, &x, 1, &y), std::invalid_argument);
  CHECK_THROWS(dense_forward(Dtype::float64, {&x, &x, 1, 1}, &x, -1, &y), std::invalid_argument);
}

}  // namespace

int main() {
  chain_against_all_paths();
  chain_gradient();
  chain_refuses();
  alignments_against_all_paths();
  alignments_refuse();
  dense_against_loops(1, 1, 1);
  dense_against_loops(37, 5, 19);
  dense_against_loops(300, 40, 33);
  dense_refuses();
  return check::result();
}
