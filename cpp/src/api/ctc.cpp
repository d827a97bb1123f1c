#include <lstmcore/ctc.hpp>

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

void check(const Sequences& logits, std::int64_t blank, int n_threads) {
  checks::check_size("logits: features", logits.features);
  checks::check(logits, logits.features);
  if (logits.features < 2) fail("logits: expected at least 2 outputs, a label and the blank, got 1");
  if (blank < 0 || blank >= logits.features) {
    fail("blank: expected 0 to " + text(logits.features - 1) + ", got " + text(blank));
  }
  checks::check_threads(n_threads);
}

void check_targets(const Sequences& logits, const std::int32_t* labels, const std::int64_t* counts,
                   std::int64_t blank) {
  std::int64_t at = 0;
  for (std::int64_t n = 0; n < logits.count; ++n) {
    const auto where = [&] { return "labels: sequence " + text(n) + ": "; };
    if (counts[n] < 0) fail("counts: sequence " + text(n) + ": expected 0 or more, got " + text(counts[n]));
    std::int64_t needed = counts[n];
    for (std::int64_t k = 0; k < counts[n]; ++k, ++at) {
      if (labels[at] < 0 || labels[at] >= logits.features) {
        fail(where() + "label " + text(k) + ": expected 0 to " + text(logits.features - 1) + ", got " +
             text(labels[at]));
      }
      if (labels[at] == blank) fail(where() + "label " + text(k) + " is the blank");
      if (k > 0 && labels[at] == labels[at - 1]) ++needed;
    }
    if (needed > logits.lengths[n]) {
      fail(where() + text(counts[n]) + " labels need at least " + text(needed) +
           " steps, a blank between equal neighbours included, but it has " + text(logits.lengths[n]));
    }
  }
}

}  // namespace

void ctc_loss(Dtype dtype, const Sequences& logits, const std::int32_t* labels, const std::int64_t* counts,
              std::int64_t blank, const double* weights, double* losses, void* const* gradient, int n_threads) {
  check(logits, blank, n_threads);
  check_present("counts", counts);
  check_present("losses", losses);
  std::int64_t total = 0;
  for (std::int64_t n = 0; n < logits.count; ++n) total += counts[n];
  if (total > 0) check_present("labels", labels);
  check_targets(logits, labels, counts, blank);
  for (std::int64_t n = 0; weights != nullptr && n < logits.count; ++n) {
    if (!std::isfinite(weights[n]) || weights[n] < 0.0) {
      fail("weights: sequence " + text(n) + ": expected a finite number >= 0");
    }
  }
  for (std::int64_t n = 0; gradient != nullptr && n < logits.count; ++n) check_present("gradient", gradient[n]);
  engine::current().labelling(dtype).ctc_loss(logits, labels, counts, blank, weights, losses, gradient, n_threads);
}

void ctc_greedy(Dtype dtype, const Sequences& logits, std::int64_t blank, std::int32_t* labels, std::int64_t* counts) {
  check(logits, blank, 0);
  check_present("labels", labels);
  check_present("counts", counts);
  engine::current().labelling(dtype).ctc_greedy(logits, blank, labels, counts);
}

std::vector<std::vector<CtcHypothesis>> ctc_beam(Dtype dtype, const Sequences& logits, std::int64_t blank,
                                                 std::int64_t width, const CtcScore& score) {
  check(logits, blank, 0);
  checks::check_size("width", width);
  return engine::current().labelling(dtype).ctc_beam(logits, blank, width, score);
}

}  // namespace lstmcore
