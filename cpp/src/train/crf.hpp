// Linear-chain conditional random fields (Lafferty, McCallum & Pereira 2001): loss, gradient, marginals, best path.
//
//   score(y) = start(y_0) + Σ_t e_t(y_t) + Σ_{t>0} A(y_{t−1}, y_t) + end(y_{T−1})        e: emissions [T, K]
//   p(y | x) = exp(score(y)) / Σ_{y'} exp(score(y'))
//
// A score of −∞ forbids. With b_{T−1}(k) = end(k), b_{t−1}(j) = log Σ_k exp(A(j, k) + e_t(k) + b_t(k)),
//
//   p(y_t = k | y_{t−1} = j) = exp(A(j, k) + e_t(k) + b_t(k) − b_{t−1}(j))
//   loss = −Σ_t w_t log p(y_t | y_{t−1}),
//
// which for w = 1 is −log p(y | x), and otherwise weighs each step: class weights of a chain. Gradients follow from
// expected counts, that is from one pass that carries probability forward: M_t(k) = Σ_j m_{t−1}(j) p(k | j), where
// m_t = M_t + (w_{t+1} − w_t) at the step's label, since there the loss has (w_{t+1} − w_t) b_t(y_t).
//
// b is kept as a logarithm. Its sums are products of exp(A) with exp(e + b − max), K exponentials a step instead of K²;
// a sum that this makes too small (forbidden or very unlikely transitions) is done again term by term, so that nothing
// underflows however long the sequence. Arithmetic is in double for either element type.
#pragma once

#include "base/arena.hpp"
#include "base/threads.hpp"
#include "math/functions.hpp"

#include <lstmcore/crf.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

LSTMCORE_BEGIN_NAMESPACE

namespace crf_detail {

constexpr double kForbidden = -std::numeric_limits<double>::infinity();
/// Sums of products below it are done again term by term: what underflowed in them is smaller by 10⁻¹⁰⁰.
constexpr double kSmall = 1e-200;
/// Parts that sequences are divided into and whose sums are added in order, for any number of threads.
constexpr std::int64_t kGroups = 16;

/// exp(x) for x ≤ 0, and exactly 0 where it is far below what matters; NaN stays NaN.
inline Pack<double> exp_below(Pack<double> x) noexcept {
  const Pack<double> value = math::exp(x);
  return x < constant<Pack<double>>(-700.0) ? Pack<double>{} : value;
}

inline double exp_below(double x) noexcept { return x < -700.0 ? 0.0 : math::exp(x); }

}  // namespace crf_detail

template <class T>
class CrfPass {
 public:
  CrfPass(std::int64_t labels, const CrfScores& scores, int n_threads)
      : labels_(labels), stride_((labels + kWidth - 1) / kWidth * kWidth), n_threads_(n_threads) {
    const auto* const transitions = static_cast<const T*>(scores.transitions);
    const std::int64_t square = labels_ * stride_;
    a_ = shared_.take<double>(square);
    factors_ = shared_.take<double>(square);
    factors_to_ = shared_.take<double>(square);
    largest_ = shared_.take<double>(stride_);
    start_ = shared_.take<double>(stride_);
    end_ = shared_.take<double>(stride_);
    std::fill_n(a_, square, crf_detail::kForbidden);
    std::fill_n(factors_, square, 0.0);
    std::fill_n(factors_to_, square, 0.0);
    for (std::int64_t k = 0; k < stride_; ++k) {
      largest_[k] = 0.0;
      start_[k] = k < labels_ ? static_cast<double>(static_cast<const T*>(scores.start)[k]) : crf_detail::kForbidden;
      end_[k] = k < labels_ ? static_cast<double>(static_cast<const T*>(scores.end)[k]) : crf_detail::kForbidden;
    }
    for (std::int64_t j = 0; j < labels_; ++j) {
      double* const row = a_ + j * stride_;
      double most = crf_detail::kForbidden;
      for (std::int64_t k = 0; k < labels_; ++k) {
        row[k] = static_cast<double>(transitions[j * labels_ + k]);
        most = row[k] > most ? row[k] : most;
      }
      largest_[j] = std::isinf(most) ? 0.0 : most;
      for (std::int64_t k = 0; k < labels_; ++k) {
        const double factor = crf_detail::exp_below(row[k] - largest_[j]);
        factors_[j * stride_ + k] = factor;
        factors_to_[k * stride_ + j] = factor;
      }
    }
  }

  /// See crf_loss() in lstmcore/crf.hpp. labels and weights: of all steps, one sequence after the other.
  void loss(const Sequences& emissions, const std::int32_t* labels, const double* weights, double* losses,
            const CrfGradient* gradient) {
    divide(emissions);
    prepare(gradient != nullptr);
    parallel(team_, [&](Member member) {
      Scratch& scratch = scratch_[static_cast<std::size_t>(member.id)];
      const Member::Range range = member.share(crf_detail::kGroups);
      for (std::int64_t g = range.begin; g < range.end; ++g) {
        Sums* const sums = gradient == nullptr ? nullptr : &sums_[static_cast<std::size_t>(g)];
        for (std::int64_t n = first_[static_cast<std::size_t>(g)]; n < first_[static_cast<std::size_t>(g) + 1]; ++n) {
          const std::int64_t at = begin_[static_cast<std::size_t>(n)], length = emissions.lengths[n];
          const std::int32_t* const path = labels + at;
          const double* const of_steps = weights == nullptr ? nullptr : weights + at;
          T* const d = gradient == nullptr ? nullptr : static_cast<T*>(gradient->emissions[n]);
          if (of_steps != nullptr && std::all_of(of_steps, of_steps + length, [](double w) { return w == 0.0; })) {
            // Left out, whatever its emissions are: 0 · inf would not be 0.
            losses[n] = 0.0;
            if (d != nullptr) std::fill_n(d, length * labels_, T{0});
            continue;
          }
          backward(static_cast<const T*>(emissions.data[n]), length, scratch);
          losses[n] = path_loss(length, path, of_steps, scratch);
          if (d != nullptr) forward(length, path, of_steps, scratch, sums, d);
        }
      }
    });
    if (gradient != nullptr) gather(*gradient);
  }

  /// marginals: [T_n, K] of each sequence. log_partition: [N] or nullptr.
  void marginals(const Sequences& emissions, void* const* marginals, double* log_partition) {
    divide(emissions);
    prepare(false);
    parallel(team_, [&](Member member) {
      Scratch& scratch = scratch_[static_cast<std::size_t>(member.id)];
      const Member::Range range = member.share(crf_detail::kGroups);
      for (std::int64_t n = first_[static_cast<std::size_t>(range.begin)];
           n < first_[static_cast<std::size_t>(range.end)]; ++n) {
        backward(static_cast<const T*>(emissions.data[n]), emissions.lengths[n], scratch);
        if (log_partition != nullptr) log_partition[n] = scratch.log_partition;
        forward(emissions.lengths[n], nullptr, nullptr, scratch, nullptr, static_cast<T*>(marginals[n]));
      }
    });
  }

  /// Viterbi (1967). labels: of all steps, one sequence after the other; of paths with equal scores the one whose last
  /// labels come first. scores: [N] or nullptr.
  void decode(const Sequences& emissions, std::int32_t* labels, double* scores) {
    divide(emissions);
    prepare(false);
    parallel(team_, [&](Member member) {
      Scratch& scratch = scratch_[static_cast<std::size_t>(member.id)];
      const Member::Range range = member.share(crf_detail::kGroups);
      for (std::int64_t n = first_[static_cast<std::size_t>(range.begin)];
           n < first_[static_cast<std::size_t>(range.end)]; ++n) {
        const double best = viterbi(static_cast<const T*>(emissions.data[n]), emissions.lengths[n], scratch,
                                    labels + begin_[static_cast<std::size_t>(n)]);
        if (scores != nullptr) scores[n] = best;
      }
    });
  }

 private:
  static constexpr std::int64_t kWidth = kLanes<double>;
  /// Multiply-adds that are worth a second thread.
  static constexpr std::int64_t kShared = 50'000;

  /// Of one thread.
  struct Scratch {
    Arena memory;
    double* e = nullptr;           ///< [T, stride]
    double* b = nullptr;           ///< [T, stride]
    double* u = nullptr;           ///< [T, stride]: exp(e_t + b_t − max)
    double* r = nullptr;           ///< [T, stride]: of step t − 1, 1 / Σ_k factors(j, k) u_t(k); −1: done term by term
    double* mass = nullptr;        ///< [stride]
    double* next = nullptr;        ///< [stride]
    std::int32_t* from = nullptr;  ///< [T, stride], for Viterbi over u
    double log_partition = 0.0;
  };

  /// Of one group of sequences.
  struct Sums {
    double* products = nullptr;  ///< [K, stride], to be multiplied by the factors
    double* counts = nullptr;    ///< [K, stride]
    double* start = nullptr;     ///< [stride]
    double* end = nullptr;       ///< [stride]
  };

  /// Groups of about equally many steps.
  void divide(const Sequences& x) {
    begin_.resize(static_cast<std::size_t>(x.count) + 1);
    begin_[0] = 0;
    longest_ = 0;
    for (std::int64_t n = 0; n < x.count; ++n) {
      begin_[static_cast<std::size_t>(n) + 1] = begin_[static_cast<std::size_t>(n)] + x.lengths[n];
      longest_ = std::max(longest_, x.lengths[n]);
    }
    const std::int64_t total = begin_.back();
    first_.assign(crf_detail::kGroups + 1, x.count);
    std::int64_t n = 0;
    for (std::int64_t g = 0; g < crf_detail::kGroups; ++g) {
      while (n < x.count && begin_[static_cast<std::size_t>(n)] * crf_detail::kGroups < total * g) ++n;
      first_[static_cast<std::size_t>(g)] = n;
    }
    team_ = total * labels_ * stride_ < kShared ? 1 : usable_threads(n_threads_);
    team_ = static_cast<int>(std::min<std::int64_t>({team_, crf_detail::kGroups, x.count}));
  }

  void prepare(bool sums) {
    scratch_ = std::vector<Scratch>(static_cast<std::size_t>(team_));
    const std::int64_t size = longest_ * stride_;
    for (Scratch& scratch : scratch_) {
      scratch.e = scratch.memory.template take<double>(size);
      scratch.b = scratch.memory.template take<double>(size);
      scratch.u = scratch.memory.template take<double>(size);
      scratch.r = scratch.memory.template take<double>(size);
      scratch.mass = scratch.memory.template take<double>(stride_);
      scratch.next = scratch.memory.template take<double>(stride_);
      scratch.from = scratch.memory.template take<std::int32_t>(size);
    }
    sums_.assign(sums ? crf_detail::kGroups : 0, Sums{});
    for (Sums& sum : sums_) {
      const auto zeros = [&](std::int64_t count) {
        auto* const values = shared_.take<double>(count);
        std::fill_n(values, count, 0.0);
        return values;
      };
      sum = {zeros(labels_ * stride_), zeros(labels_ * stride_), zeros(stride_), zeros(stride_)};
    }
  }

  /// b, u and r of a sequence, and its log partition function.
  void backward(const T* emissions, std::int64_t length, Scratch& s) const noexcept {
    for (std::int64_t t = 0; t < length; ++t) {
      double* const row = s.e + t * stride_;
      for (std::int64_t k = 0; k < labels_; ++k) row[k] = static_cast<double>(emissions[t * labels_ + k]);
      std::fill(row + labels_, row + stride_, crf_detail::kForbidden);
    }
    std::copy_n(end_, stride_, s.b + (length - 1) * stride_);
    for (std::int64_t t = length - 1; t > 0; --t) {
      const double* const e = s.e + t * stride_;
      const double* const b = s.b + t * stride_;
      double* const u = s.u + t * stride_;
      double* const r = s.r + (t - 1) * stride_;
      double* const before = s.b + (t - 1) * stride_;
      const double most = relative(e, b, u);
      std::fill_n(r, stride_, 0.0);
      for (std::int64_t k = 0; k < labels_; ++k) {
        const double* const factors = factors_to_ + k * stride_;
        const Pack<double> factor = broadcast(u[k]);
        for (std::int64_t j = 0; j < stride_; j += kWidth) store(r + j, load(r + j) + factor * load(factors + j));
      }
      for (std::int64_t j = 0; j < labels_; ++j) {
        if (r[j] >= crf_detail::kSmall) {
          before[j] = most + largest_[j] + std::log(r[j]);
          r[j] = 1.0 / r[j];
        } else {
          before[j] = sum_of_terms(a_ + j * stride_, e, b);
          r[j] = -1.0;
        }
      }
      std::fill(before + labels_, before + stride_, crf_detail::kForbidden);
    }
    s.log_partition = sum_of_terms(start_, s.e, s.b);
  }

  /// u = exp(e + b − max); returns max.
  double relative(const double* e, const double* b, double* u) const noexcept {
    double most = crf_detail::kForbidden;
    for (std::int64_t k = 0; k < labels_; ++k) {
      const double value = e[k] + b[k];
      most = value > most ? value : most;
    }
    if (std::isinf(most) && most < 0.0) {
      std::fill_n(u, stride_, 0.0);  // or NaN, which term by term brings to light
      return most;
    }
    const Pack<double> shift = broadcast(most);
    for (std::int64_t k = 0; k < stride_; k += kWidth) {
      store(u + k, crf_detail::exp_below(load(e + k) + load(b + k) - shift));
    }
    return most;
  }

  /// log Σ_k exp(a_k + e_k + b_k)
  double sum_of_terms(const double* a, const double* e, const double* b) const noexcept {
    double most = crf_detail::kForbidden;
    for (std::int64_t k = 0; k < labels_; ++k) {
      const double value = a[k] + e[k] + b[k];
      if (std::isnan(value)) return value;
      most = value > most ? value : most;
    }
    if (std::isinf(most)) return most;
    double sum = 0.0;
    for (std::int64_t k = 0; k < labels_; ++k) sum += crf_detail::exp_below(a[k] + e[k] + b[k] - most);
    return most + std::log(sum);
  }

  double path_loss(std::int64_t length, const std::int32_t* path, const double* weights,
                   const Scratch& s) const noexcept {
    double sum = 0.0;
    double available = s.log_partition;  // of all that may follow
    for (std::int64_t t = 0; t < length; ++t) {
      const std::int64_t k = path[t];
      const double before = t == 0 ? start_[k] : a_[path[t - 1] * stride_ + k];
      const double taken = before + s.e[t * stride_ + k] + s.b[t * stride_ + k];
      // Where both are −∞ nothing is possible; the difference would be NaN.
      const double loss = std::isinf(taken) && taken < 0.0 ? -crf_detail::kForbidden : available - taken;
      const double weight = weights == nullptr ? 1.0 : weights[t];
      if (weight != 0.0) sum += weight * loss;
      available = s.b[t * stride_ + k];
    }
    return sum;
  }

  /// Carries probability forward. path given: out = gradient of the emissions, and adds to sums. Else out = marginals.
  void forward(std::int64_t length, const std::int32_t* path, const double* weights, Scratch& s, Sums* sums,
               T* out) const noexcept {
    const auto weight = [&](std::int64_t t) { return weights == nullptr ? 1.0 : weights[t]; };
    const double total = path == nullptr ? 1.0 : weight(0);
    for (std::int64_t k = 0; k < stride_; ++k) {
      const double value = start_[k] + s.e[k] + s.b[k] - s.log_partition;
      s.mass[k] = total * crf_detail::exp_below(value);
    }
    for (std::int64_t t = 0;; ++t) {
      const double w = path == nullptr ? 0.0 : weight(t);
      T* const row = out + t * labels_;
      for (std::int64_t k = 0; k < labels_; ++k) row[k] = static_cast<T>(s.mass[k]);
      if (path != nullptr) {
        const std::int64_t k = path[t];
        row[k] = static_cast<T>(s.mass[k] - w);
        if (t == 0) add(s.mass, k, w, sums->start);
        if (t > 0) sums->counts[path[t - 1] * stride_ + k] -= w;
        if (t == length - 1) add(s.mass, k, w, sums->end);
        if (t < length - 1) s.mass[k] += weight(t + 1) - w;
      }
      if (t == length - 1) break;
      advance(t + 1, s, sums);
    }
  }

  void add(const double* mass, std::int64_t label, double weight, double* to) const noexcept {
    for (std::int64_t k = 0; k < labels_; ++k) to[k] += mass[k];
    to[label] -= weight;
  }

  /// mass of step t − 1 → mass of step t.
  void advance(std::int64_t t, Scratch& s, Sums* sums) const noexcept {
    const double* const u = s.u + t * stride_;
    const double* const r = s.r + (t - 1) * stride_;
    std::fill_n(s.next, stride_, 0.0);
    for (std::int64_t j = 0; j < labels_; ++j) {
      if (r[j] < 0.0 || s.mass[j] == 0.0) continue;
      const Pack<double> q = broadcast(s.mass[j] * r[j]);
      const double* const factors = factors_ + j * stride_;
      for (std::int64_t k = 0; k < stride_; k += kWidth) store(s.next + k, load(s.next + k) + q * load(factors + k));
      if (sums == nullptr) continue;
      double* const products = sums->products + j * stride_;
      for (std::int64_t k = 0; k < stride_; k += kWidth) store(products + k, load(products + k) + q * load(u + k));
    }
    for (std::int64_t k = 0; k < stride_; k += kWidth) store(s.next + k, load(s.next + k) * load(u + k));
    for (std::int64_t j = 0; j < labels_; ++j) {
      if (r[j] >= 0.0 || s.mass[j] == 0.0) continue;
      const double* const a = a_ + j * stride_;
      const double available = s.b[(t - 1) * stride_ + j];
      if (std::isinf(available)) continue;  // nothing can follow j
      for (std::int64_t k = 0; k < labels_; ++k) {
        const double p = crf_detail::exp_below(a[k] + s.e[t * stride_ + k] + s.b[t * stride_ + k] - available);
        s.next[k] += s.mass[j] * p;
        if (sums != nullptr) sums->counts[j * stride_ + k] += s.mass[j] * p;
      }
    }
    std::swap(s.mass, s.next);
  }

  /// Sums of all groups, in their order.
  void gather(const CrfGradient& gradient) const noexcept {
    for (std::int64_t j = 0; j < labels_; ++j) {
      double start = 0.0, end = 0.0;
      for (const Sums& sum : sums_) {
        start += sum.start[j];
        end += sum.end[j];
      }
      static_cast<T*>(gradient.start)[j] = static_cast<T>(start);
      static_cast<T*>(gradient.end)[j] = static_cast<T>(end);
      for (std::int64_t k = 0; k < labels_; ++k) {
        const std::int64_t at = j * stride_ + k;
        double products = 0.0, counts = 0.0;
        for (const Sums& sum : sums_) {
          products += sum.products[at];
          counts += sum.counts[at];
        }
        const double value = a_[at] == crf_detail::kForbidden ? 0.0 : factors_[at] * products + counts;
        static_cast<T*>(gradient.transitions)[j * labels_ + k] = static_cast<T>(value);
      }
    }
  }

  double viterbi(const T* emissions, std::int64_t length, Scratch& s, std::int32_t* path) const noexcept {
    double* before = s.mass;
    double* best = s.next;
    for (std::int64_t k = 0; k < labels_; ++k) before[k] = start_[k] + static_cast<double>(emissions[k]);
    for (std::int64_t t = 1; t < length; ++t) {
      std::int32_t* const from = s.from + t * stride_;
      std::fill_n(best, labels_, crf_detail::kForbidden);
      std::fill_n(from, labels_, 0);
      for (std::int64_t j = 0; j < labels_; ++j) {
        const double* const a = a_ + j * stride_;
        const double so_far = before[j];
        const auto label = static_cast<std::int32_t>(j);
        for (std::int64_t k = 0; k < labels_; ++k) {
          const double score = so_far + a[k];
          const bool better = score > best[k];
          best[k] = better ? score : best[k];
          from[k] = better ? label : from[k];
        }
      }
      for (std::int64_t k = 0; k < labels_; ++k) best[k] += static_cast<double>(emissions[t * labels_ + k]);
      std::swap(before, best);
    }
    for (std::int64_t k = 0; k < labels_; ++k) before[k] += end_[k];
    const double* const last = std::max_element(before, before + labels_);
    path[length - 1] = static_cast<std::int32_t>(last - before);
    for (std::int64_t t = length - 1; t > 0; --t) path[t - 1] = s.from[t * stride_ + path[t]];
    return *last;
  }

  std::int64_t labels_;
  std::int64_t stride_;  ///< labels_ in whole packs
  int n_threads_;
  int team_ = 1;
  std::int64_t longest_ = 0;
  Arena shared_;
  double* a_ = nullptr;              ///< [K, stride]: transition scores, from j to k
  double* factors_ = nullptr;        ///< [K, stride]: exp(a(j, k) − largest of row j)
  double* factors_to_ = nullptr;     ///< [K, stride]: its transpose
  double* largest_ = nullptr;        ///< [stride]
  double* start_ = nullptr;          ///< [stride]
  double* end_ = nullptr;            ///< [stride]
  std::vector<std::int64_t> begin_;  ///< [N + 1]: steps before each sequence
  std::vector<std::int64_t> first_;  ///< [groups + 1]: sequences before each group
  std::vector<Scratch> scratch_;
  std::vector<Sums> sums_;
};

LSTMCORE_END_NAMESPACE
