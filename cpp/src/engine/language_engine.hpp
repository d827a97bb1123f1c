// LanguageEngine for one element type.
#pragma once

#include "base/cancel.hpp"
#include "engine/engine.hpp"
#include "model/sampling.hpp"
#include "train/softmax.hpp"

LSTMCORE_BEGIN_NAMESPACE

template <class T>
class LanguageOf final : public engine::LanguageEngine {
 public:
  void embed(const Embedding& embedding, const std::int32_t* codes, std::int64_t count, void* rows) const override {
    const T* const table = static_cast<const T*>(embedding.table);
    T* to = static_cast<T*>(rows);
    for (std::int64_t i = 0; i < count; ++i) {
      to = std::copy_n(table + codes[i] * embedding.width, embedding.width, to);
    }
  }

  void embed_backward(const Embedding& embedding, const std::int32_t* codes, std::int64_t count, const void* rows,
                      void* gradient, int n_threads) const override {
    const std::int64_t width = embedding.width;
    const T* const from = static_cast<const T*>(rows);
    T* const to = static_cast<T*>(gradient);
    const std::int64_t parts = (count + embedding.symbols) * width / kShared + 1;
    const auto team = static_cast<int>(std::min<std::int64_t>(usable_threads(n_threads), parts));
    parallel(team, [&](Member member) {
      const Member::Range own = member.share(embedding.symbols);
      std::fill(to + own.begin * width, to + own.end * width, T{0});
      for (std::int64_t i = 0; i < count; ++i) {
        const std::int64_t symbol = codes[i];
        if (symbol >= own.begin && symbol < own.end) add_scaled(width, T{1}, from + i * width, to + symbol * width);
      }
    });
  }

  double softmax_loss(const DenseLayer& layer, const void* x, std::int64_t rows, const std::int32_t* labels,
                      double* losses, const SoftmaxGradient* gradient, int n_threads) const override {
    return SoftmaxLoss<T>(layer, n_threads).run(static_cast<const T*>(x), rows, labels, losses, gradient);
  }

  double sampled_softmax_loss(const DenseLayer& layer, const void* x, std::int64_t rows, const std::int32_t* labels,
                              const SampledSymbols& samples, double* losses, const SoftmaxGradient* gradient,
                              int n_threads) const override {
    return SoftmaxLoss<T>(layer, n_threads)
        .run_sampled(static_cast<const T*>(x), rows, labels, samples, losses, gradient);
  }

  void log_probabilities(const OutputParts& output, const void* x, std::int64_t rows, std::int64_t inputs, void* out,
                         int n_threads) const override {
    const std::int64_t units = (rows + kRowBlock - 1) / kRowBlock;
    const auto team = static_cast<int>(std::min<std::int64_t>(usable_threads(n_threads), units));
    parallel(team, [&](Member member) {
      const Member::Range range = member.share(rows, kRowBlock);
      if (range.begin == range.end) return;
      const OutputLayer<T> layer(output, inputs, std::min(kRowBlock, range.end - range.begin));
      const std::int64_t V = layer.symbols();
      for (std::int64_t row = range.begin; row < range.end; row += kRowBlock) {
        const std::int64_t count = std::min(kRowBlock, range.end - row);
        T* const to = static_cast<T*>(out) + row * V;
        layer.scores(static_cast<const T*>(x) + row * inputs, count, to);
        if (output.size() > 1) continue;
        for (std::int64_t r = 0; r < count; ++r) OutputLayer<T>::log_softmax(to + r * V, V);
      }
    });
  }

  std::vector<std::vector<std::int32_t>> generate(const engine::RecurrentEngine& layers, const Embedding& embedding,
                                                  const OutputParts& output, const std::vector<std::int32_t>& first,
                                                  void* const* state, std::int64_t length,
                                                  const SamplingOptions& options, const Cancel& cancel) const override {
    const auto N = static_cast<std::int64_t>(first.size());
    const std::int64_t H = layers.output_width();
    const OutputLayer<T> top(output, H, N);
    const std::int64_t V = top.symbols();
    const auto steps = layers.make_steps(N);
    std::vector<T> x(static_cast<std::size_t>(N * embedding.width)), h(static_cast<std::size_t>(N * H)),
        scores(static_cast<std::size_t>(N * V));
    std::vector<Sampler<T>> samplers;
    for (std::int64_t n = 0; n < N; ++n) samplers.emplace_back(options, V, n);
    std::vector<std::vector<std::int32_t>> texts(first.size());
    for (auto& text : texts) text.reserve(static_cast<std::size_t>(std::min<std::int64_t>(length, 1 << 16)));
    std::vector<std::int32_t> codes = first;
    std::vector<char> ended(first.size(), 0);
    std::size_t open = first.size();
    CancelToken token(&cancel);
    for (std::int64_t t = 0; t < length && open > 0; ++t) {
      if (token.poll()) throw Interrupted("generate: cancelled");
      embed(embedding, codes.data(), N, x.data());
      steps->step(x.data(), state, h.data());
      const FlushDenormals guard;
      top.scores(h.data(), N, scores.data());
      for (std::size_t n = 0; n < first.size(); ++n) {
        if (ended[n] != 0) continue;
        codes[n] = samplers[n].draw(scores.data() + static_cast<std::int64_t>(n) * V);
        if (codes[n] < 0) {
          throw std::invalid_argument("generate: the scores of text " + std::to_string(n) +
                                      " are NaN or infinite; expected weights and states that are finite");
        }
        texts[n].push_back(codes[n]);
        if (!ends(texts[n], options.stops)) continue;
        ended[n] = 1;
        --open;
      }
    }
    return texts;
  }

 private:
  /// Elements moved that are worth a second thread.
  static constexpr std::int64_t kShared = 100'000;

  static bool ends(const std::vector<std::int32_t>& text,
                   const std::vector<std::vector<std::int32_t>>& stops) noexcept {
    return std::any_of(stops.begin(), stops.end(), [&text](const std::vector<std::int32_t>& stop) {
      return stop.size() <= text.size() && std::equal(stop.rbegin(), stop.rend(), text.rbegin());
    });
  }
};

LSTMCORE_END_NAMESPACE
