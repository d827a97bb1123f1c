// LabellingEngine for one element type.
#pragma once

#include "base/arena.hpp"
#include "base/threads.hpp"
#include "engine/engine.hpp"
#include "sequence/dense.hpp"
#include "train/crf.hpp"
#include "train/ctc.hpp"

#include <algorithm>
#include <vector>

LSTMCORE_BEGIN_NAMESPACE

template <class T>
class LabellingOf final : public engine::LabellingEngine {
 public:
  void dense_forward(const DenseLayer& layer, const void* x, std::int64_t rows, void* y, int n_threads) const override {
    const Dense<T> dense(layer.outputs, 1, layer.inputs);
    const int team = team_for(layer, rows, n_threads);
    Arena memory;
    const Rows<T> in{memory.take<T>(rows * dense.input_stride()), dense.input_stride()};
    const Rows<T> out{memory.take<T>(rows * dense.stride()), dense.stride()};
    T* const packed = memory.take<T>(dense.packed_size());
    dense.pack(static_cast<const T*>(layer.w), static_cast<const T*>(layer.b), packed);
    parallel(team, [&](Member member) {
      // In the units of the kernels, so that the bits of a row do not depend on where a share ends.
      const Member::Range range = member.share(rows, kRowBlock);
      widen(static_cast<const T*>(x), layer.inputs, range, in);
      Rows<T> share = out;
      share.data = out[range.begin];
      Rows<const T> from = in.read();
      from.data = in[range.begin];
      dense.forward(packed, range.end - range.begin, from, share);
      for (std::int64_t row = range.begin; row < range.end; ++row) {
        std::copy_n(out[row], layer.outputs, static_cast<T*>(y) + row * layer.outputs);
      }
    });
  }

  void dense_backward(const DenseLayer& layer, const void* x, std::int64_t rows, const void* dy, void* dx, void* dw,
                      void* db, int n_threads) const override {
    const Dense<T> dense(layer.outputs, 1, layer.inputs);
    const int team = team_for(layer, rows, n_threads);
    Arena memory;
    const Rows<T> in{memory.take<T>(rows * dense.input_stride()), dense.input_stride()};
    const Rows<T> slopes{memory.take<T>(rows * dense.stride()), dense.stride()};
    T* const packed = memory.take<T>(dense.back_size());
    std::vector<T*> scratch(static_cast<std::size_t>(team));
    for (T*& piece : scratch) piece = memory.take<T>(dense.scratch());
    SpinBarrier barrier;
    parallel(team, [&](Member member) {
      const Member::Range range = member.share(rows, kRowBlock);
      widen(static_cast<const T*>(x), layer.inputs, range, in);
      widen(static_cast<const T*>(dy), layer.outputs, range, slopes);
      if (dx != nullptr) dense.pack_back(static_cast<const T*>(layer.w), packed, member);
      barrier.wait(member.size);
      dense.weight_gradient(rows, slopes.read(), in.read(), static_cast<T*>(dw), static_cast<T*>(db),
                            scratch[static_cast<std::size_t>(member.id)], member);
      if (dx == nullptr) return;
      barrier.wait(member.size);  // the rows of x become those of dx
      dense.input_gradient(Start::zero, packed, range.begin, range.end, slopes.read(), in);
      for (std::int64_t row = range.begin; row < range.end; ++row) {
        std::copy_n(in[row], layer.inputs, static_cast<T*>(dx) + row * layer.inputs);
      }
    });
  }

  void crf_loss(const Sequences& emissions, const CrfScores& scores, const std::int32_t* labels, const double* weights,
                double* losses, const CrfGradient* gradient, int n_threads) const override {
    CrfPass<T>(emissions.features, scores, n_threads).loss(emissions, labels, weights, losses, gradient);
  }
  void crf_marginals(const Sequences& emissions, const CrfScores& scores, void* const* marginals, double* log_partition,
                     int n_threads) const override {
    CrfPass<T>(emissions.features, scores, n_threads).marginals(emissions, marginals, log_partition);
  }
  void crf_decode(const Sequences& emissions, const CrfScores& scores, std::int32_t* labels, double* path_scores,
                  int n_threads) const override {
    CrfPass<T>(emissions.features, scores, n_threads).decode(emissions, labels, path_scores);
  }
  void ctc_loss(const Sequences& logits, const std::int32_t* labels, const std::int64_t* counts, std::int64_t blank,
                const double* weights, double* losses, void* const* gradient, int n_threads) const override {
    CtcPass<T>(logits.features, blank, n_threads).loss(logits, labels, counts, weights, losses, gradient);
  }
  void ctc_greedy(const Sequences& logits, std::int64_t blank, std::int32_t* labels,
                  std::int64_t* counts) const override {
    ctc_best_path<T>(logits, blank, labels, counts);
  }
  std::vector<std::vector<CtcHypothesis>> ctc_beam(const Sequences& logits, std::int64_t blank, std::int64_t width,
                                                   const CtcScore& score) const override {
    std::vector<std::vector<CtcHypothesis>> found;
    CtcBeam<T> beam(logits.features, blank, width, score);
    for (std::int64_t n = 0; n < logits.count; ++n) {
      found.push_back(beam.search(static_cast<const T*>(logits.data[n]), logits.lengths[n]));
    }
    return found;
  }

 private:
  /// Multiply-adds that are worth a second thread.
  static constexpr std::int64_t kShared = 200'000;

  static int team_for(const DenseLayer& layer, std::int64_t rows, int n_threads) noexcept {
    const std::int64_t work = rows * layer.inputs * layer.outputs;
    const std::int64_t parts = std::min<std::int64_t>((rows + kRowBlock - 1) / kRowBlock, work / kShared + 1);
    return static_cast<int>(std::max<std::int64_t>(1, std::min<std::int64_t>(usable_threads(n_threads), parts)));
  }

  /// Rows of `width` columns → rows of whole packs, zeros behind.
  static void widen(const T* from, std::int64_t width, Member::Range range, Rows<T> to) noexcept {
    for (std::int64_t row = range.begin; row < range.end; ++row) {
      std::copy_n(from + row * width, width, to[row]);
      std::fill(to[row] + width, to[row] + to.stride, T{0});
    }
  }
};

LSTMCORE_END_NAMESPACE
