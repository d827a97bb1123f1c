// Linear-chain conditional random fields over emissions from a network: loss with gradient, marginals, best path.
#pragma once

#include <lstmcore/types.hpp>

namespace lstmcore {

/// Scores of a chain; borrowed memory of the emissions' type. −∞ forbids a transition, a first or a last label.
struct CrfScores {
  const void* transitions = nullptr;  ///< [K, K]: from row to column
  const void* start = nullptr;        ///< [K]
  const void* end = nullptr;          ///< [K]
};

/// Where gradients go, all overwritten.
struct CrfGradient {
  void* const* emissions = nullptr;  ///< [T_n, K] of each sequence
  void* transitions = nullptr;       ///< [K, K]; 0 where forbidden
  void* start = nullptr;             ///< [K]
  void* end = nullptr;               ///< [K]
};

/// −Σ_t w_t log p(y_t | y_{t−1}, x) of each sequence, which for weights of 1 is −log p(y | x) (Lafferty, McCallum &
/// Pereira 2001, "Conditional random fields"; for networks, Huang, Xu & Yu 2015), and the gradient of their sum.
///
/// dtype: of emissions, scores and gradient; arithmetic is in double for either.
/// emissions: [T_n, K], features = K. labels: 0 … K − 1 of all steps, one sequence after the other. weights: of all
/// steps likewise, finite and ≥ 0, or nullptr for ones. losses: [N]. gradient: nullptr for none. n_threads: 0 for all
/// cores; results do not depend on it. Throws std::invalid_argument, also for labels along a forbidden transition.
LSTMCORE_API void crf_loss(Dtype dtype, const Sequences& emissions, const CrfScores& scores, const std::int32_t* labels,
                           const double* weights, double* losses, const CrfGradient* gradient, int n_threads = 0);

/// p(y_t = k | x): marginals [T_n, K] of each sequence; log_partition [N] or nullptr: log Σ_y exp(score(y)), −∞ (and
/// marginals that are not numbers) where every path is forbidden. The rest as for crf_loss().
LSTMCORE_API void crf_marginals(Dtype dtype, const Sequences& emissions, const CrfScores& scores,
                                void* const* marginals, double* log_partition, int n_threads = 0);

/// The most probable labels (Viterbi 1967), of all steps, one sequence after the other; path_scores [N] or nullptr: of
/// these paths, −∞ where every path is forbidden, whose labels then mean nothing. The rest as for crf_loss().
LSTMCORE_API void crf_decode(Dtype dtype, const Sequences& emissions, const CrfScores& scores, std::int32_t* labels,
                             double* path_scores, int n_threads = 0);

}  // namespace lstmcore
