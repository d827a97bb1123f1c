// Softmax cross-entropy over many outputs, from the inputs of the dense layer to its gradients, block of rows by block.
//
//   s_r = W x_r + b,  l_r = log Σ_k exp(s_rk) − s_ry,  ∂l_r/∂s_rk = exp(s_rk) / Σ_j exp(s_rj) − [k = y_r]
//
// sampled (Jean, Cho, Memisevic & Bengio 2015): k runs over the label and S samples, s_rk − log Q_k in place of s_rk,
// Q_k the expected number of draws of k; samples that equal the label are left out.
//
// Scores exist for one block of rows at a time. The size of a block depends on the sizes alone and sums over rows run
// in their order, so results do not depend on the number of threads. Exponentials are in T, sums over a row in double.
#pragma once

#include "base/arena.hpp"
#include "kernels/softmax_row.hpp"
#include "sequence/dense.hpp"

#include <lstmcore/language.hpp>

#include <algorithm>
#include <limits>
#include <vector>

LSTMCORE_BEGIN_NAMESPACE

template <class T>
class SoftmaxLoss {
 public:
  SoftmaxLoss(const DenseLayer& layer, int n_threads) noexcept
      : layer_(layer), w_(static_cast<const T*>(layer.w)), b_(static_cast<const T*>(layer.b)), threads_(n_threads) {}

  double run(const T* x, std::int64_t rows, const std::int32_t* labels, double* losses,
             const SoftmaxGradient* gradient) const {
    Pieces p(Dense<T>(layer_.outputs, 1, layer_.inputs), rows, gradient, losses, team_for(layer_.outputs, rows));
    p.w = w_;
    p.b = b_;
    p.dw = gradient == nullptr ? nullptr : static_cast<T*>(gradient->w);
    p.db = gradient == nullptr ? nullptr : static_cast<T*>(gradient->b);
    const std::int64_t V = layer_.outputs;
    return blocks(p, x, rows, gradient, [&](std::int64_t row, T* scores, T*) {
      const auto label = static_cast<std::int64_t>(labels[row]);
      const T top = largest(scores, V);
      const auto below = static_cast<double>(scores[label] - top);
      const double sum = exponentials(scores, V, top);
      p.losses[row] = std::log(sum) - below;
      if (gradient == nullptr) return;
      scale_row(scores, V, static_cast<T>(gradient->scale / sum));
      scores[label] -= static_cast<T>(gradient->scale);
      std::fill(scores + V, scores + p.dense.stride(), T{0});
    });
  }

  double run_sampled(const T* x, std::int64_t rows, const std::int32_t* labels, const SampledSymbols& samples,
                     double* losses, const SoftmaxGradient* gradient) const {
    const std::int64_t S = samples.count, H = layer_.inputs;
    Pieces p(Dense<T>(S, 1, H), rows, gradient, losses, team_for(S, rows));
    std::vector<T> w(static_cast<std::size_t>(S * H)), b(static_cast<std::size_t>(S)), d_label;
    std::vector<std::int32_t> position(static_cast<std::size_t>(layer_.outputs), -1);
    for (std::int64_t j = 0; j < S; ++j) {
      const std::int64_t symbol = samples.symbols[j];
      position[static_cast<std::size_t>(symbol)] = static_cast<std::int32_t>(j);
      std::copy_n(w_ + symbol * H, H, w.data() + j * H);
      b[static_cast<std::size_t>(j)] = b_[symbol] - static_cast<T>(samples.log_expected[j]);
    }
    std::vector<T> dw, db;
    if (gradient != nullptr) {
      dw.resize(w.size());
      db.resize(b.size());
      d_label.resize(static_cast<std::size_t>(rows));
    }
    p.w = w.data();
    p.b = b.data();
    p.dw = dw.data();
    p.db = db.data();
    p.label_rows = w_;
    p.labels = labels;
    p.d_label = d_label.data();
    const double total = blocks(p, x, rows, gradient, [&](std::int64_t row, T* scores, T* in) {
      const auto label = static_cast<std::int64_t>(labels[row]);
      const T own = dot(H, in, w_ + label * H) + b_[label] - static_cast<T>(samples.label_log_expected[row]);
      const std::int32_t hit = position[static_cast<std::size_t>(label)];
      T top = largest(scores, S);
      top = own > top ? own : top;
      if (hit >= 0) scores[hit] = std::numeric_limits<T>::lowest();
      double sum = exponentials(scores, S, top);
      if (hit >= 0) scores[hit] = T{0};  // exp() never gives less than its smallest number
      const T own_share = math::exp(own - top);
      sum += static_cast<double>(own_share);
      p.losses[row] = std::log(sum) - static_cast<double>(own - top);
      if (gradient == nullptr) return;
      scale_row(scores, S, static_cast<T>(gradient->scale / sum));
      p.d_label[row] = static_cast<T>(gradient->scale * (static_cast<double>(own_share) / sum - 1.0));
      std::fill(scores + S, scores + p.dense.stride(), T{0});
    });
    if (gradient != nullptr) scatter(x, rows, labels, samples, dw, db, d_label, *gradient);
    return total;
  }

 private:
  /// Multiply-adds that are worth a second thread, and elements of scores at a time.
  static constexpr std::int64_t kShared = 200'000, kScores = std::int64_t{1} << 21;

  int team_for(std::int64_t outputs, std::int64_t rows) const noexcept {
    const std::int64_t parts =
        std::min((rows + kRowBlock - 1) / kRowBlock, rows * layer_.inputs * outputs / kShared + 1);
    return static_cast<int>(std::clamp<std::int64_t>(usable_threads(threads_), 1, std::max<std::int64_t>(parts, 1)));
  }

  /// Working memory and operands of one run.
  struct Pieces {
    Pieces(Dense<T> layer, std::int64_t rows, const SoftmaxGradient* gradient, double* losses_out, int team_size)
        : dense(layer), team(team_size) {
      // At least two blocks of the kernels, so that two threads have something to do.
      block = std::max<std::int64_t>(2, kScores / dense.stride() / kRowBlock) * kRowBlock;
      const std::int64_t most = std::min(block, (rows + kRowBlock - 1) / kRowBlock * kRowBlock);
      in = {memory.take<T>(most * dense.input_stride()), dense.input_stride()};
      scores = {memory.take<T>(most * dense.stride()), dense.stride()};
      packed = memory.take<T>(dense.packed_size());
      losses = losses_out != nullptr ? losses_out : memory.take<double>(rows);
      if (gradient == nullptr) return;
      d_in = {memory.take<T>(most * dense.input_stride()), dense.input_stride()};
      back = memory.take<T>(dense.back_size());
      scratch.resize(static_cast<std::size_t>(team));
      for (T*& piece : scratch) piece = memory.take<T>(dense.scratch());
      if (rows <= block) return;
      part_w = memory.take<T>(dense.outputs() * dense.depth());
      part_b = memory.take<T>(dense.outputs());
    }

    Arena memory;
    Dense<T> dense;
    int team;
    std::int64_t block = 0;
    Rows<T> in{}, scores{}, d_in{};
    T *packed = nullptr, *back = nullptr, *part_w = nullptr, *part_b = nullptr, *dw = nullptr, *db = nullptr;
    const T *w = nullptr, *b = nullptr;
    double* losses = nullptr;
    std::vector<T*> scratch;
    /// Sampled softmax: the score of each row's label has a weight row of its own.
    const T* label_rows = nullptr;
    const std::int32_t* labels = nullptr;
    T* d_label = nullptr;
  };

  /// finish(row, scores, in): the row's loss, and its scores to slopes.
  template <class Finish>
  double blocks(Pieces& p, const T* x, std::int64_t rows, const SoftmaxGradient* gradient, Finish&& finish) const {
    const Dense<T>& dense = p.dense;
    const std::int64_t H = dense.depth();
    SpinBarrier barrier;
    parallel(p.team, [&](Member member) {
      dense.pack(p.w, p.b, p.packed, member);
      if (gradient != nullptr) dense.pack_back(p.w, p.back, member);
      barrier.wait(member.size);
      for (std::int64_t first = 0; first < rows; first += p.block) {
        const std::int64_t count = std::min(p.block, rows - first);
        // In the units of the kernels, so that the bits of a row do not depend on where a share ends.
        const Member::Range range = member.share(count, kRowBlock);
        for (std::int64_t r = range.begin; r < range.end; ++r) {
          std::copy_n(x + (first + r) * H, H, p.in[r]);
          std::fill(p.in[r] + H, p.in[r] + p.in.stride, T{0});
        }
        if (range.begin < range.end) {
          dense.forward(p.packed, range.end - range.begin, from(p.in, range.begin).read(), from(p.scores, range.begin));
        }
        for (std::int64_t r = range.begin; r < range.end; ++r) finish(first + r, p.scores[r], p.in[r]);
        if (gradient != nullptr) {
          dense.input_gradient(Start::zero, p.back, range.begin, range.end, p.scores.read(), p.d_in);
          for (std::int64_t r = range.begin; r < range.end; ++r) {
            const std::int64_t row = first + r;
            if (p.label_rows != nullptr) {
              add_scaled(H, p.d_label[row], p.label_rows + p.labels[row] * H, p.d_in[r]);
            }
            std::copy_n(p.d_in[r], H, static_cast<T*>(gradient->x) + row * H);
          }
          barrier.wait(member.size);
          weights(p, first, count, member);
        }
        barrier.wait(member.size);
      }
    });
    double total = 0.0;
    for (std::int64_t row = 0; row < rows; ++row) total += p.losses[row];
    return total;
  }

  static Rows<T> from(Rows<T> rows, std::int64_t first) noexcept {
    rows.data = rows[first];
    return rows;
  }

  /// This member's rows of dW and db: those of the first block, then those of the others added in turn.
  static void weights(Pieces& p, std::int64_t first, std::int64_t count, Member member) noexcept {
    const Dense<T>& dense = p.dense;
    const std::int64_t H = dense.depth();
    T* const scratch = p.scratch[static_cast<std::size_t>(member.id)];
    T* const to_w = first == 0 ? p.dw : p.part_w;
    T* const to_b = first == 0 ? p.db : p.part_b;
    dense.weight_gradient(count, p.scores.read(), p.in.read(), to_w, to_b, scratch, member);
    if (first == 0) return;
    const Member::Range own = dense.gradient_share(member);
    const std::int64_t end = std::min(own.end, dense.outputs());
    if (own.begin >= end) return;
    add_scaled((end - own.begin) * H, T{1}, p.part_w + own.begin * H, p.dw + own.begin * H);
    add_scaled(end - own.begin, T{1}, p.part_b + own.begin, p.db + own.begin);
  }

  /// Gradients of samples and labels to their rows of dW: each row's sum is in the order of the batch.
  void scatter(const T* x, std::int64_t rows, const std::int32_t* labels, const SampledSymbols& samples,
               const std::vector<T>& dw, const std::vector<T>& db, const std::vector<T>& d_label,
               const SoftmaxGradient& gradient) const {
    const std::int64_t V = layer_.outputs, H = layer_.inputs;
    T* const to_w = static_cast<T*>(gradient.w);
    T* const to_b = static_cast<T*>(gradient.b);
    parallel(team_for(1, rows), [&](Member member) {
      const Member::Range own = member.share(V);
      std::fill(to_w + own.begin * H, to_w + own.end * H, T{0});
      std::fill(to_b + own.begin, to_b + own.end, T{0});
      for (std::int64_t j = 0; j < samples.count; ++j) {
        const std::int64_t symbol = samples.symbols[j];
        if (symbol < own.begin || symbol >= own.end) continue;
        std::copy_n(dw.data() + j * H, H, to_w + symbol * H);
        to_b[symbol] = db[static_cast<std::size_t>(j)];
      }
      for (std::int64_t row = 0; row < rows; ++row) {
        const std::int64_t symbol = labels[row];
        if (symbol < own.begin || symbol >= own.end) continue;
        const T slope = d_label[static_cast<std::size_t>(row)];
        add_scaled(H, slope, x + row * H, to_w + symbol * H);
        to_b[symbol] += slope;
      }
    });
  }

  DenseLayer layer_;
  const T* w_;
  const T* b_;
  int threads_;
};

LSTMCORE_END_NAMESPACE
