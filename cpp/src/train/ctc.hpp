// Connectionist temporal classification (Graves, Fernández, Gomez & Schmidhuber 2006): loss, gradient, decoding.
//
//   l' = blank l_1 blank l_2 … l_L blank, S = 2L + 1 states                y_t = softmax(logits_t)
//   α_t(s) = y_t(l'_s) (α_{t−1}(s) + α_{t−1}(s − 1) + [l'_s ∉ {blank, l'_{s−2}}] α_{t−1}(s − 2))          (eq. 6, 7)
//   β_t(s) likewise from the end, here without y_t;   p(l | x) = Σ_s α_t(s) β_t(s) for any t                (eq. 8, 14)
//   d(−log p)/d logits_t(k) = y_t(k) − Σ_{s: l'_s = k} α_t(s) β_t(s) / p                                  (eq. 15, 16)
//
// α and β are logarithms; a pack of states at a time takes two exponentials and a logarithm by series. Rescaling in
// place of logarithms would lose the only states that reach the end where a network is sure and wrong. What is
// impossible is a large negative number and not −∞, whose differences would be NaN. Arithmetic is in double.
#pragma once

#include "base/arena.hpp"
#include "base/threads.hpp"
#include "math/functions.hpp"

#include <lstmcore/ctc.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <unordered_map>
#include <vector>

LSTMCORE_BEGIN_NAMESPACE

namespace ctc_detail {

constexpr double kNever = -1e300;

template <class V>
inline V larger(V a, V b) noexcept {
  return a > b ? a : b;
}
template <class V>
inline V smaller(V a, V b) noexcept {
  return a > b ? b : a;
}

/// exp(x) for x ≤ 0; 0 far below.
inline Pack<double> exp_below(Pack<double> x) noexcept {
  const Pack<double> value = math::exp(x);
  return x < constant<Pack<double>>(-700.0) ? Pack<double>{} : value;
}

/// log(e^a + e^b + e^c)
inline Pack<double> log_sum(Pack<double> a, Pack<double> b, Pack<double> c) noexcept {
  using V = Pack<double>;
  const V high = larger(a, b);
  const V most = larger(high, c);
  const V sum = constant<V>(1.0) + exp_below(smaller(a, b) - most) + exp_below(smaller(high, c) - most);
  // sum lies in [1, 3]: log √3 + 2 atanh((sum − √3) / (sum + √3)), |…| ≤ 0.27.
  const V middle = constant<V>(1.7320508075688772);
  const V q = (sum - middle) / (sum + middle);
  return most + constant<V>(0.54930614433405484) + constant<V>(2.0) * q * math::atanh_tail<V, 0>(q * q);
}

inline double log_sum(double a, double b) noexcept {
  const double most = larger(a, b);
  return most <= kNever ? kNever : most + std::log1p(std::exp(smaller(a, b) - most));
}

/// log softmax of a row of K in double; false where it is not made of numbers.
template <class T>
bool log_softmax(std::int64_t count, const T* from, double* to) noexcept {
  double most = -std::numeric_limits<double>::infinity();
  for (std::int64_t k = 0; k < count; ++k) {
    to[k] = static_cast<double>(from[k]);
    most = larger(to[k], most);
  }
  if (!std::isfinite(most)) return false;
  constexpr std::int64_t W = kLanes<double>;
  Pack<double> sums{};
  double sum = 0.0;
  std::int64_t k = 0;
  for (; k + W <= count; k += W) sums += exp_below(load(to + k) - broadcast(most));
  for (; k < count; ++k) sum += std::exp(to[k] - most);
  for (int lane = 0; lane < W; ++lane) sum += sums[lane];
  const double shift = most + std::log(sum);
  if (!std::isfinite(shift)) return false;
  for (k = 0; k < count; ++k) to[k] = larger(to[k] - shift, kNever);
  return true;
}

}  // namespace ctc_detail

template <class T>
class CtcPass {
 public:
  CtcPass(std::int64_t outputs, std::int64_t blank, int n_threads)
      : outputs_(outputs), stride_((outputs + kWidth - 1) / kWidth * kWidth), blank_(blank), n_threads_(n_threads) {}

  /// See ctc_loss() in lstmcore/ctc.hpp.
  void loss(const Sequences& logits, const std::int32_t* labels, const std::int64_t* counts, const double* weights,
            double* losses, void* const* gradient) const {
    std::vector<std::int64_t> first(static_cast<std::size_t>(logits.count) + 1, 0);
    std::int64_t longest = 0, most_states = 0, cells = 0, room = 0;
    for (std::int64_t n = 0; n < logits.count; ++n) {
      first[static_cast<std::size_t>(n) + 1] = first[static_cast<std::size_t>(n)] + counts[n];
      const std::int64_t states = 2 * counts[n] + 1;
      longest = std::max(longest, logits.lengths[n]);
      most_states = std::max(most_states, states);
      cells += logits.lengths[n] * (states + outputs_);
      room = std::max(room, logits.lengths[n] * row_of(states));
    }
    int team = cells < kShared ? 1 : usable_threads(n_threads_);
    team = static_cast<int>(std::min<std::int64_t>(team, logits.count));
    std::vector<Scratch> scratch(static_cast<std::size_t>(team));
    for (Scratch& s : scratch) {
      s.y = s.memory.template take<double>(longest * stride_);
      s.alpha = s.memory.template take<double>(room);
      s.emission = s.memory.template take<double>(room);
      s.next = s.memory.template take<double>(row_of(most_states));
      s.skip = s.memory.template take<double>(row_of(most_states));
      s.posterior = s.memory.template take<double>(row_of(most_states));
      s.sums = s.memory.template take<double>(stride_);
    }
    parallel(team, [&](Member member) {
      Scratch& s = scratch[static_cast<std::size_t>(member.id)];
      const Member::Range range = member.share(logits.count);
      for (std::int64_t n = range.begin; n < range.end; ++n) {
        const double weight = weights == nullptr ? 1.0 : weights[n];
        T* const d = gradient == nullptr ? nullptr : static_cast<T*>(gradient[n]);
        const std::int64_t length = logits.lengths[n];
        if (weight == 0.0) {  // left out, whatever its logits are
          losses[n] = 0.0;
          if (d != nullptr) std::fill_n(d, length * outputs_, T{0});
          continue;
        }
        losses[n] = weight * one(static_cast<const T*>(logits.data[n]), length,
                                 labels + first[static_cast<std::size_t>(n)], counts[n], weight, s, d);
      }
    });
  }

 private:
  static constexpr std::int64_t kWidth = kLanes<double>;
  /// States and outputs that are worth a second thread.
  static constexpr std::int64_t kShared = 2'000;

  /// Of one thread. A row of states has a pack of impossible ones before and behind.
  struct Scratch {
    Arena memory;
    double* y = nullptr;          ///< [T, stride]: log softmax
    double* alpha = nullptr;      ///< [T, row]
    double* emission = nullptr;   ///< [T, row]: log y_t(l'_s)
    double* next = nullptr;       ///< [row]: β_{t+1} + emission_{t+1}
    double* skip = nullptr;       ///< [row]: 0 where s may follow s − 2
    double* posterior = nullptr;  ///< [row]
    double* sums = nullptr;       ///< [stride]
  };

  static std::int64_t row_of(std::int64_t states) noexcept {
    return (states + kWidth - 1) / kWidth * kWidth + 2 * kWidth;
  }

  /// −log p(labels); d, if any: weight times its gradient.
  double one(const T* logits, std::int64_t length, const std::int32_t* labels, std::int64_t count, double weight,
             Scratch& s, T* d) const noexcept {
    using ctc_detail::kNever;
    const std::int64_t states = 2 * count + 1, row = row_of(states), whole = row - 2 * kWidth;
    for (std::int64_t t = 0; t < length; ++t) {
      double* const y = s.y + t * stride_;
      if (!ctc_detail::log_softmax(outputs_, logits + t * outputs_, y)) {
        constexpr double nan = std::numeric_limits<double>::quiet_NaN();
        if (d != nullptr) std::fill_n(d, length * outputs_, static_cast<T>(nan));
        return nan;
      }
      double* const emission = s.emission + t * row;
      std::fill_n(emission, row, kNever);
      const double blank = y[blank_];
      for (std::int64_t k = 0; k < count; ++k) {
        emission[kWidth + 2 * k] = blank;
        emission[kWidth + 2 * k + 1] = y[labels[k]];
      }
      emission[kWidth + 2 * count] = blank;
    }
    std::fill_n(s.skip, row, kNever);
    for (std::int64_t k = 1; k < count; ++k) {
      if (labels[k] != labels[k - 1]) s.skip[kWidth + 2 * k + 1] = 0.0;
    }

    std::fill_n(s.alpha, row, kNever);
    for (std::int64_t state = 0; state < std::min<std::int64_t>(2, states); ++state) {
      s.alpha[kWidth + state] = s.emission[kWidth + state];
    }
    const Pack<double> never = broadcast(kNever);
    for (std::int64_t t = 1; t < length; ++t) {
      const double* const before = s.alpha + (t - 1) * row + kWidth;
      const double* const emission = s.emission + t * row + kWidth;
      double* const alpha = s.alpha + t * row + kWidth;
      for (std::int64_t i = 0; i < whole; i += kWidth) {
        const Pack<double> sum = ctc_detail::log_sum(load(before + i), load(before + i - 1),
                                                     load(before + i - 2) + load(s.skip + kWidth + i));
        store(alpha + i, ctc_detail::larger(sum + load(emission + i), never));
      }
      std::fill_n(alpha - kWidth, kWidth, kNever);
      std::fill_n(alpha + whole, kWidth, kNever);
    }
    const double* const last = s.alpha + (length - 1) * row + kWidth;
    const double log_p = ctc_detail::log_sum(last[states - 1], states > 1 ? last[states - 2] : kNever);
    if (d != nullptr) backward(length, labels, count, weight, log_p, s, d);
    return log_p <= 0.5 * kNever ? std::numeric_limits<double>::infinity() : -log_p;
  }

  void backward(std::int64_t length, const std::int32_t* labels, std::int64_t count, double weight, double log_p,
                Scratch& s, T* d) const noexcept {
    using ctc_detail::kNever;
    const std::int64_t states = 2 * count + 1, row = row_of(states), whole = row - 2 * kWidth;
    const Pack<double> never = broadcast(kNever), total = broadcast(log_p);
    double* const next = s.next + kWidth;
    double* const posterior = s.posterior + kWidth;
    double* const skip = s.skip + kWidth;
    std::fill_n(s.next, row, kNever);
    for (std::int64_t t = length - 1; t >= 0; --t) {
      const double* const alpha = s.alpha + t * row + kWidth;
      const double* const emission = s.emission + t * row + kWidth;
      if (t == length - 1) {
        for (std::int64_t state = std::max<std::int64_t>(0, states - 2); state < states; ++state) next[state] = 0.0;
      } else {
        // In place: from state i on only next[i …] is read, and i itself is written last.
        for (std::int64_t i = 0; i < whole; i += kWidth) {
          const Pack<double> sum =
              ctc_detail::log_sum(load(next + i), load(next + i + 1), load(next + i + 2) + load(skip + i + 2));
          store(next + i, ctc_detail::larger(sum, never));
        }
        std::fill(next + states, next + whole + kWidth, kNever);
      }
      // next holds β_t.
      for (std::int64_t i = 0; i < whole; i += kWidth) {
        const Pack<double> beta = load(next + i);
        store(posterior + i, ctc_detail::exp_below(load(alpha + i) + beta - total));
        store(next + i, ctc_detail::larger(beta + load(emission + i), never));
      }
      double* const y = s.y + t * stride_;
      double* const sums = s.sums;
      for (std::int64_t k = 0; k < stride_; k += kWidth) store(sums + k, ctc_detail::exp_below(load(y + k)));
      for (std::int64_t k = 0; k < count; ++k) {
        sums[blank_] -= posterior[2 * k];
        sums[labels[k]] -= posterior[2 * k + 1];
      }
      sums[blank_] -= posterior[2 * count];
      T* const to = d + t * outputs_;
      for (std::int64_t k = 0; k < outputs_; ++k) to[k] = static_cast<T>(weight * sums[k]);
    }
  }

  std::int64_t outputs_;
  std::int64_t stride_;
  std::int64_t blank_;
  int n_threads_;
};

/// The most probable output of each step, repeats merged, blanks dropped: best path decoding (Graves et al. 2006).
/// labels: room for all steps; what is left of each sequence stands one after the other. counts: [N].
template <class T>
void ctc_best_path(const Sequences& logits, std::int64_t blank, std::int32_t* labels, std::int64_t* counts) noexcept {
  const std::int64_t K = logits.features;
  for (std::int64_t n = 0; n < logits.count; ++n) {
    const auto* const rows = static_cast<const T*>(logits.data[n]);
    std::int64_t before = blank;
    counts[n] = 0;
    for (std::int64_t t = 0; t < logits.lengths[n]; ++t) {
      const T* const row = rows + t * K;
      const std::int64_t k = std::max_element(row, row + K) - row;
      if (k != blank && k != before) {
        *labels++ = static_cast<std::int32_t>(k);
        ++counts[n];
      }
      before = k;
    }
  }
}

/// Prefix beam search (Hannun, Maas, Jurafsky & Ng 2014): the `width` label sequences of highest total probability over
/// all their alignments, step by step. Prefixes form a tree, so that one reached in two ways is one.
template <class T>
class CtcBeam {
 public:
  CtcBeam(std::int64_t outputs, std::int64_t blank, std::int64_t width, const CtcScore& score)
      : outputs_(outputs), blank_(blank), width_(width), score_(score), y_(static_cast<std::size_t>(outputs)) {}

  std::vector<CtcHypothesis> search(const T* logits, std::int64_t length) {
    nodes_.assign(1, Node{});
    children_.clear();
    beam_.assign(1, 0);
    nodes_[0].blank = 0.0;
    for (std::int64_t t = 0; t < length; ++t) {
      if (!ctc_detail::log_softmax(outputs_, logits + t * outputs_, y_.data())) return {};
      step(t + 1);
    }
    std::vector<CtcHypothesis> found;
    for (const std::int32_t index : beam_) {
      const double total = nodes_[static_cast<std::size_t>(index)].total();
      if (total > 0.5 * ctc_detail::kNever) found.push_back({prefix_of(index), total});  // else forbidden
    }
    return found;
  }

 private:
  struct Node {
    std::int32_t parent = -1;
    std::int32_t label = -1;
    std::int64_t touched = 0;                                       ///< step that next_… belong to
    double blank = ctc_detail::kNever, other = ctc_detail::kNever;  ///< log p of alignments by their last output
    double next_blank = ctc_detail::kNever, next_other = ctc_detail::kNever;
    double score = 0.0;  ///< sum of what the callback gave along the prefix
    double total() const noexcept { return ctc_detail::log_sum(blank, other) + score; }
  };

  Node& touch(std::int32_t index, std::int64_t step) {
    Node& node = nodes_[static_cast<std::size_t>(index)];
    if (node.touched != step) {
      node.touched = step;
      node.next_blank = node.next_other = ctc_detail::kNever;
      reached_.push_back(index);
    }
    return node;
  }

  void step(std::int64_t at) {
    reached_.clear();
    for (const std::int32_t index : beam_) {
      // By value: nodes_ grows below.
      const Node node = nodes_[static_cast<std::size_t>(index)];
      const double all = ctc_detail::log_sum(node.blank, node.other);
      {
        Node& same = touch(index, at);
        same.next_blank = ctc_detail::log_sum(same.next_blank, all + y_[static_cast<std::size_t>(blank_)]);
        if (node.label >= 0) {
          const double repeated = node.other + y_[static_cast<std::size_t>(node.label)];
          same.next_other = ctc_detail::log_sum(same.next_other, repeated);
        }
      }
      for (std::int64_t k = 0; k < outputs_; ++k) {
        if (k == blank_) continue;
        // A label twice in a row needs a blank between.
        const double p = (k == node.label ? node.blank : all) + y_[static_cast<std::size_t>(k)];
        if (p <= 0.5 * ctc_detail::kNever) continue;
        Node& longer = touch(child(index, static_cast<std::int32_t>(k)), at);
        longer.next_other = ctc_detail::log_sum(longer.next_other, p);
      }
    }
    for (const std::int32_t index : reached_) {
      Node& node = nodes_[static_cast<std::size_t>(index)];
      node.blank = node.next_blank;
      node.other = node.next_other;
      ranked_.push_back({node.total(), index});
    }
    // Of equal ones the prefix that was met first.
    const auto better = [](const Ranked& a, const Ranked& b) {
      return a.total != b.total ? a.total > b.total : a.node < b.node;
    };
    const std::size_t kept = std::min(ranked_.size(), static_cast<std::size_t>(width_));
    std::partial_sort(ranked_.begin(), ranked_.begin() + static_cast<std::ptrdiff_t>(kept), ranked_.end(), better);
    beam_.clear();
    for (std::size_t k = 0; k < kept; ++k) beam_.push_back(ranked_[k].node);
    ranked_.clear();
  }

  std::int32_t child(std::int32_t parent, std::int32_t label) {
    const std::uint64_t key =
        static_cast<std::uint64_t>(static_cast<std::uint32_t>(parent)) << 32U | static_cast<std::uint32_t>(label);
    const auto [place, fresh] = children_.try_emplace(key, static_cast<std::int32_t>(nodes_.size()));
    if (fresh) {
      Node node;
      node.parent = parent;
      node.label = label;
      node.score = nodes_[static_cast<std::size_t>(parent)].score;
      if (score_) {
        const std::vector<std::int32_t> prefix = prefix_of(parent);
        node.score += score_(prefix.data(), static_cast<std::int64_t>(prefix.size()), label);
      }
      nodes_.push_back(node);
    }
    return place->second;
  }

  std::vector<std::int32_t> prefix_of(std::int32_t node) const {
    std::vector<std::int32_t> labels;
    for (; node > 0; node = nodes_[static_cast<std::size_t>(node)].parent) {
      labels.push_back(nodes_[static_cast<std::size_t>(node)].label);
    }
    std::reverse(labels.begin(), labels.end());
    return labels;
  }

  struct Ranked {
    double total;
    std::int32_t node;
  };

  std::int64_t outputs_, blank_, width_;
  const CtcScore& score_;
  std::vector<double> y_;
  std::vector<Node> nodes_;
  std::unordered_map<std::uint64_t, std::int32_t> children_;
  std::vector<std::int32_t> beam_, reached_;
  std::vector<Ranked> ranked_;
};

LSTMCORE_END_NAMESPACE
