// Connectionist temporal classification: loss with gradient, and decoding, of label sequences without alignment.
#pragma once

#include <lstmcore/types.hpp>

#include <functional>

namespace lstmcore {

/// −log p(labels | x) of each sequence (Graves, Fernández, Gomez & Schmidhuber 2006), and its gradient.
///
/// dtype: of logits and gradient; arithmetic is in double for either.
/// logits: [T_n, K], features = K, before the softmax. labels: 0 … K − 1 but not blank, one sequence after the other;
/// counts: [N], how many each has, 0 or more. weights: [N], finite and ≥ 0, or nullptr for ones. losses: [N], weighted.
/// gradient: [T_n, K] of each sequence, of the sum of losses; nullptr for none. n_threads: 0 for all cores; results do
/// not depend on it. Throws std::invalid_argument, also where a sequence has fewer steps than its labels and the blanks
/// between equal neighbours need.
LSTMCORE_API void ctc_loss(Dtype dtype, const Sequences& logits, const std::int32_t* labels, const std::int64_t* counts,
                           std::int64_t blank, const double* weights, double* losses, void* const* gradient,
                           int n_threads = 0);

/// The most probable output of each step, repeats merged and blanks dropped. labels: room for all steps, what is found
/// stands one sequence after the other; counts: [N]. Throws std::invalid_argument.
LSTMCORE_API void ctc_greedy(Dtype dtype, const Sequences& logits, std::int64_t blank, std::int32_t* labels,
                             std::int64_t* counts);

struct CtcHypothesis {
  std::vector<std::int32_t> labels;
  double score = 0.0;  ///< log p(labels | x) over the alignments that the search has followed, callback's part added
};

/// Log score of a label after a prefix, to be added: prefix, its length, next label. May throw.
using CtcScore = std::function<double(const std::int32_t*, std::int64_t, std::int32_t)>;

/// Prefix beam search (Hannun, Maas, Jurafsky & Ng 2014): up to `width` label sequences a sequence, the best first;
/// none where logits are not numbers. The search is exact where `width` is at least the number of prefixes there are.
/// score: called once for each prefix met, on the calling thread. Throws std::invalid_argument.
LSTMCORE_API std::vector<std::vector<CtcHypothesis>> ctc_beam(Dtype dtype, const Sequences& logits, std::int64_t blank,
                                                              std::int64_t width, const CtcScore& score = {});

}  // namespace lstmcore
