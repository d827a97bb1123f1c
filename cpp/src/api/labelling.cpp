#include <lstmcore/crf.hpp>
#include <lstmcore/dense.hpp>

#include "api/checks.hpp"
#include "engine/engine.hpp"

#include <cmath>
#include <string>

namespace lstmcore {

namespace {

using checks::fail;

std::string text(std::int64_t number) { return std::to_string(number); }

void check_present(const char* name, const void* pointer) {
  if (pointer == nullptr) fail(std::string(name) + ": expected values, got null");
}

void check(const DenseLayer& layer, std::int64_t rows, const void* x, int n_threads) {
  checks::check_size("inputs", layer.inputs);
  checks::check_size("outputs", layer.outputs);
  if (rows < 1) fail("rows: expected at least 1, got " + text(rows));
  check_present("w", layer.w);
  check_present("b", layer.b);
  check_present("x", x);
  checks::check_threads(n_threads);
}

/// A number of one type or the other.
double value_at(Dtype dtype, const void* values, std::int64_t at) {
  return dtype == Dtype::float32 ? static_cast<double>(static_cast<const float*>(values)[at])
                                 : static_cast<const double*>(values)[at];
}

void check(Dtype dtype, const Sequences& emissions, const CrfScores& scores, int n_threads) {
  checks::check_size("emissions: features", emissions.features);
  checks::check(emissions, emissions.features);
  check_present("transitions", scores.transitions);
  check_present("start", scores.start);
  check_present("end", scores.end);
  checks::check_threads(n_threads);
  // Emissions may hold anything, as in a training that diverges; of the few scores NaN and +∞ are refused.
  const std::int64_t K = emissions.features;
  const auto look = [&](const char* name, const void* values, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) {
      const double value = value_at(dtype, values, i);
      if (std::isnan(value) || (std::isinf(value) && value > 0.0)) {
        fail(std::string(name) + ": expected finite numbers, or minus infinity to forbid, got " +
             (std::isnan(value) ? "NaN" : "infinity") + " at position " + text(i));
      }
    }
  };
  look("transitions", scores.transitions, K * K);
  look("start", scores.start, K);
  look("end", scores.end, K);
}

void check_labels(Dtype dtype, const Sequences& emissions, const CrfScores& scores, const std::int32_t* labels) {
  const std::int64_t K = emissions.features;
  const auto forbidden = [&](const void* values, std::int64_t at) { return std::isinf(value_at(dtype, values, at)); };
  std::int64_t at = 0;
  for (std::int64_t n = 0; n < emissions.count; ++n) {
    for (std::int64_t t = 0; t < emissions.lengths[n]; ++t, ++at) {
      const auto where = [&] { return "labels: sequence " + text(n) + ", step " + text(t) + ": "; };
      const std::int64_t label = labels[at];
      if (label < 0 || label >= K) fail(where() + "expected 0 to " + text(K - 1) + ", got " + text(label));
      if (t == 0 && forbidden(scores.start, label)) {
        fail(where() + "label " + text(label) + " is forbidden as the first");
      }
      if (t > 0 && forbidden(scores.transitions, labels[at - 1] * K + label)) {
        fail(where() + "the transition from label " + text(labels[at - 1]) + " to " + text(label) + " is forbidden");
      }
      if (t + 1 == emissions.lengths[n] && forbidden(scores.end, label)) {
        fail(where() + "label " + text(label) + " is forbidden as the last");
      }
    }
  }
}

void check_weights(const Sequences& emissions, const double* weights) {
  if (weights == nullptr) return;
  std::int64_t at = 0;
  for (std::int64_t n = 0; n < emissions.count; ++n) {
    for (std::int64_t t = 0; t < emissions.lengths[n]; ++t, ++at) {
      if (std::isfinite(weights[at]) && weights[at] >= 0.0) continue;
      fail("weights: sequence " + text(n) + ", step " + text(t) + ": expected a finite number >= 0");
    }
  }
}

void check_rows(const char* name, const void* const* rows, std::int64_t count) {
  check_present(name, rows);
  for (std::int64_t n = 0; n < count; ++n) check_present(name, rows[n]);
}

}  // namespace

void dense_forward(Dtype dtype, const DenseLayer& layer, const void* x, std::int64_t rows, void* y, int n_threads) {
  check(layer, rows, x, n_threads);
  check_present("y", y);
  engine::current().labelling(dtype).dense_forward(layer, x, rows, y, n_threads);
}

void dense_backward(Dtype dtype, const DenseLayer& layer, const void* x, std::int64_t rows, const void* dy, void* dx,
                    void* dw, void* db, int n_threads) {
  check(layer, rows, x, n_threads);
  check_present("dy", dy);
  check_present("dw", dw);
  check_present("db", db);
  engine::current().labelling(dtype).dense_backward(layer, x, rows, dy, dx, dw, db, n_threads);
}

void crf_loss(Dtype dtype, const Sequences& emissions, const CrfScores& scores, const std::int32_t* labels,
              const double* weights, double* losses, const CrfGradient* gradient, int n_threads) {
  check(dtype, emissions, scores, n_threads);
  check_present("labels", labels);
  check_present("losses", losses);
  check_labels(dtype, emissions, scores, labels);
  check_weights(emissions, weights);
  if (gradient != nullptr) {
    check_rows("gradient: emissions", gradient->emissions, emissions.count);
    check_present("gradient: transitions", gradient->transitions);
    check_present("gradient: start", gradient->start);
    check_present("gradient: end", gradient->end);
  }
  engine::current().labelling(dtype).crf_loss(emissions, scores, labels, weights, losses, gradient, n_threads);
}

void crf_marginals(Dtype dtype, const Sequences& emissions, const CrfScores& scores, void* const* marginals,
                   double* log_partition, int n_threads) {
  check(dtype, emissions, scores, n_threads);
  check_rows("marginals", marginals, emissions.count);
  engine::current().labelling(dtype).crf_marginals(emissions, scores, marginals, log_partition, n_threads);
}

void crf_decode(Dtype dtype, const Sequences& emissions, const CrfScores& scores, std::int32_t* labels,
                double* path_scores, int n_threads) {
  check(dtype, emissions, scores, n_threads);
  check_present("labels", labels);
  engine::current().labelling(dtype).crf_decode(emissions, scores, labels, path_scores, n_threads);
}

}  // namespace lstmcore
