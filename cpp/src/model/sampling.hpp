// The output layer of a language model as a whole, and drawing of symbols from it.
#pragma once

#include "base/arena.hpp"
#include "base/rng.hpp"
#include "kernels/softmax_row.hpp"
#include "sequence/dense.hpp"

#include <lstmcore/language.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

LSTMCORE_BEGIN_NAMESPACE

/// Scores and log-probabilities of all V symbols for a few rows at a time, weights packed once.
///
/// An adaptive softmax (Grave et al. 2017) has further parts: the first gives the symbols that it has itself and,
/// behind them, one entry for each further part; log p of a symbol in part c is that entry's plus its own within the
/// part.
template <class T>
class OutputLayer {
 public:
  OutputLayer(const OutputParts& parts, std::int64_t inputs, std::int64_t rows) : inputs_(inputs) {
    const auto further = static_cast<std::int64_t>(parts.size()) - 1;
    for (const OutputPart& part : parts) {
      Piece piece{Dense<T>(part.layer.outputs, 1, part.layer.inputs), Dense<T>(part.layer.inputs, 1, inputs)};
      piece.packed = memory_.take<T>(piece.dense.packed_size());
      piece.dense.pack(static_cast<const T*>(part.layer.w), static_cast<const T*>(part.layer.b), piece.packed);
      piece.scores = {memory_.take<T>(rows * piece.dense.stride()), piece.dense.stride()};
      if (part.projection != nullptr) {
        piece.packed_projection = memory_.take<T>(piece.projection.packed_size());
        piece.projection.pack(static_cast<const T*>(part.projection), nullptr, piece.packed_projection);
        piece.projected = {memory_.take<T>(rows * piece.projection.stride()), piece.projection.stride()};
      }
      symbols_ += part.layer.outputs;
      pieces_.push_back(piece);
    }
    symbols_ -= further;
    in_ = {memory_.take<T>(rows * padded<T>(inputs)), padded<T>(inputs)};
  }

  std::int64_t symbols() const noexcept { return symbols_; }

  /// x [rows, H] → out [rows, V]: numbers whose softmax is p, which with several parts are log p themselves.
  void scores(const T* x, std::int64_t rows, T* out) const noexcept {
    for (std::int64_t row = 0; row < rows; ++row) {
      std::copy_n(x + row * inputs_, inputs_, in_[row]);
      std::fill(in_[row] + inputs_, in_[row] + in_.stride, T{0});
    }
    for (const Piece& piece : pieces_) {
      Rows<const T> in = in_.read();
      if (piece.packed_projection != nullptr) {
        piece.projection.forward(piece.packed_projection, rows, in, piece.projected);
        in = piece.projected.read();
      }
      piece.dense.forward(piece.packed, rows, in, piece.scores);
    }
    const auto further = static_cast<std::int64_t>(pieces_.size()) - 1;
    for (std::int64_t row = 0; row < rows; ++row) {
      T* to = out + row * symbols_;
      const Piece& first = pieces_.front();
      T* const scores = first.scores[row];
      if (further > 0) log_softmax(scores, first.dense.outputs());
      const std::int64_t own = first.dense.outputs() - further;
      to = std::copy_n(scores, own, to);
      for (std::int64_t c = 0; c < further; ++c) {
        const Piece& piece = pieces_[static_cast<std::size_t>(c) + 1];
        const std::int64_t count = piece.dense.outputs();
        log_softmax(piece.scores[row], count);
        for (std::int64_t k = 0; k < count; ++k) *to++ = scores[own + c] + piece.scores[row][k];
      }
    }
  }

  static void log_softmax(T* scores, std::int64_t count) noexcept {
    const T top = largest(scores, count);
    double sum = 0.0;
    for (std::int64_t k = 0; k < count; ++k) sum += static_cast<double>(math::exp(scores[k] - top));
    const auto shift = static_cast<double>(top) + std::log(sum);
    for (std::int64_t k = 0; k < count; ++k) scores[k] = static_cast<T>(static_cast<double>(scores[k]) - shift);
  }

 private:
  struct Piece {
    Piece(Dense<T> layer, Dense<T> before) : dense(layer), projection(before) {}
    Dense<T> dense, projection;
    T *packed = nullptr, *packed_projection = nullptr;
    Rows<T> scores{}, projected{};
  };

  Arena memory_;
  std::vector<Piece> pieces_;
  std::int64_t inputs_;
  std::int64_t symbols_ = 0;
  Rows<T> in_{};
};

/// Draws one symbol after another for one text.
template <class T>
class Sampler {
 public:
  Sampler(const SamplingOptions& options, std::int64_t symbols, std::int64_t stream)
      : options_(options), random_(mix(options.seed, static_cast<std::uint64_t>(stream))), symbols_(symbols) {
    if (options.top_k > 0 || options.top_p < 1.0) order_.resize(static_cast<std::size_t>(symbols));
  }

  /// scores [V]: used up. −1 where they are not numbers.
  std::int32_t draw(T* scores) noexcept {
    for (const std::int32_t symbol : options_.forbidden) scores[symbol] = std::numeric_limits<T>::lowest();
    if (options_.temperature == 0.0) {
      const T* const best = std::max_element(scores, scores + symbols_);
      return std::isfinite(*best) ? static_cast<std::int32_t>(best - scores) : -1;
    }
    const T top = largest(scores, symbols_);
    double total = exponentials(scores, symbols_, top, static_cast<T>(1.0 / options_.temperature));
    if (!std::isfinite(total)) return -1;
    for (const std::int32_t symbol : options_.forbidden) {
      total -= static_cast<double>(scores[symbol]);
      scores[symbol] = T{0};
    }
    if (!order_.empty()) return draw_best(scores, total);
    const double at = random_.uniform() * total;
    double sum = 0.0;
    std::int64_t last = 0;
    for (std::int64_t k = 0; k < symbols_; ++k) {
      if (!(scores[k] > T{0})) continue;
      last = k;
      sum += static_cast<double>(scores[k]);
      if (sum > at) break;
    }
    return static_cast<std::int32_t>(last);  // rounding may leave `at` beyond the sum
  }

 private:
  /// From the most probable symbols alone; weights need not sum up to 1.
  std::int32_t draw_best(const T* weights, double total) noexcept {
    std::iota(order_.begin(), order_.end(), 0);
    const auto better = [weights](std::int32_t a, std::int32_t b) {
      return weights[a] != weights[b] ? weights[a] > weights[b] : a < b;
    };
    auto end = order_.end();
    if (options_.top_k > 0 && options_.top_k < symbols_) {
      end = order_.begin() + options_.top_k;
      std::nth_element(order_.begin(), end, order_.end(), better);
    }
    std::sort(order_.begin(), end, better);
    if (options_.top_k > 0) {
      total = 0.0;
      for (auto it = order_.begin(); it != end; ++it) total += static_cast<double>(weights[*it]);
    }
    double kept = 0.0;
    auto last = order_.begin();
    while (last != end && (kept < options_.top_p * total || last == order_.begin())) {
      kept += static_cast<double>(weights[*last++]);
    }
    const double at = random_.uniform() * kept;
    double sum = 0.0;
    for (auto it = order_.begin(); it != last; ++it) {
      sum += static_cast<double>(weights[*it]);
      if (sum > at) return *it;
    }
    return order_.front();
  }

  const SamplingOptions& options_;
  Rng random_;
  std::int64_t symbols_;
  std::vector<std::int32_t> order_;
};

LSTMCORE_END_NAMESPACE
