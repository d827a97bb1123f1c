// The head: dense hidden layers, if any, and the linear layer that gives the scores.
#pragma once

#include "base/rng.hpp"
#include "math/functions.hpp"
#include "model/tensors.hpp"
#include "sequence/dense.hpp"
#include "sequence/masks.hpp"

#include <algorithm>
#include <string>
#include <vector>

LSTMCORE_BEGIN_NAMESPACE

/// Scaled exponential linear unit (Klambauer et al. 2017, eq. 2), its constants from their equation 14.
struct Selu {
  static constexpr double kScale = 1.0507009873554804934193349852946;
  static constexpr double kAlpha = 1.6732632423543772848170429916717;
  static constexpr double kLowest = -kScale * kAlpha;  ///< the limit for x → −∞, where alpha dropout puts units

  template <class V>
  static V value(V x) noexcept {
    const V bounded = math::clamp(x, constant<V>(math::ExpConstants<Scalar<V>>::kLowest), V{});
    V scale;
    V p;
    math::split_exp(bounded, scale, p);
    // e^x − 1 as tanh has it, without cancellation near 0.
    const V below = constant<V>(kScale * kAlpha) * (scale * p + (scale - constant<V>(1)));
    return x > V{} ? constant<V>(kScale) * x : below;
  }
  template <class V>
  static V derivative(V value) noexcept {
    return value > V{} ? constant<V>(kScale) : value + constant<V>(kScale * kAlpha);
  }
};

template <class T>
class Head {
 public:
  /// What forward leaves for backward: of every hidden layer its outputs, as they are and as the next layer gets them.
  struct Memory {
    struct Layer {
      std::vector<T> values, fed, factors;  ///< [N, size padded]; the latter two with dropout in training only
    };
    std::vector<Layer> layers;
    std::vector<T> d_above, d_below;  ///< gradients between two layers
  };

  /// The pooled vector: `groups` groups of `width` columns. tensors: those of the whole network.
  Head(const ModelConfig& config, std::int64_t groups, std::int64_t width, const std::vector<TensorInfo>& tensors)
      : activation_(config.head_activation), dropout_(config.head_dropout) {
    const auto add = [&](std::int64_t size, const std::string& suffix) {
      layers_.push_back({Dense<T>(size, groups, width), offset_of(tensors, "head_W" + suffix),
                         offset_of(tensors, "head_b" + suffix), packed_size_});
      packed_size_ += layers_.back().dense.packed_size();
      groups = 1;
      width = size;
    };
    for (std::size_t layer = 0; layer < config.head_sizes.size(); ++layer) {
      add(config.head_sizes[layer], "_l" + std::to_string(layer));
    }
    add(config.outputs, "");
  }

  /// Elements of the packed weights.
  std::int64_t packed_size() const noexcept { return packed_size_; }
  /// Columns of `scores` in forward().
  std::int64_t stride() const noexcept { return layers_.back().dense.stride(); }

  void pack(const T* parameters, T* packed) const noexcept {
    for (const Layer& layer : layers_)
      layer.dense.pack(parameters + layer.w, parameters + layer.b, packed + layer.packed);
  }

  /// With training, dropout is active and backward may follow; the seed decides its masks. Allocates only where a
  /// memory has not yet held so many rows.
  void forward(const T* packed, std::int64_t n, Rows<const T> pooled, Rows<T> scores, Memory& memory, bool training,
               std::uint64_t dropout_seed) const {
    memory.layers.resize(hidden());
    Rows<const T> x = pooled;
    for (std::size_t k = 0; k < hidden(); ++k) {
      const Layer& layer = layers_[k];
      typename Memory::Layer& kept = memory.layers[k];
      const std::int64_t stride = layer.dense.stride();
      kept.values.resize(static_cast<std::size_t>(n * stride));
      const Rows<T> values{kept.values.data(), stride};
      layer.dense.forward(packed + layer.packed, n, x, values);
      activate(n * stride, values.data);
      x = values.read();
      if (!training || dropout_ == 0.0) continue;
      drop(n, layer.dense.outputs(), dropout_seed, k, kept);
      x.data = kept.fed.data();
    }
    layers_.back().dense.forward(packed + layers_.back().packed, n, x, scores);
  }

  /// d_scores: [N, stride()]. Writes the gradients of all its tensors, and d_pooled with zeros in the padding.
  void backward(const T* parameters, std::int64_t n, Rows<const T> d_scores, Rows<const T> pooled, Memory& memory,
                T* gradient, Rows<T> d_pooled) const {
    Rows<const T> dy = d_scores;
    for (std::size_t k = layers_.size(); k-- > 0;) {
      const Layer& layer = layers_[k];
      const auto run = [&](Rows<const T> x, Rows<T> dx) {
        layer.dense.backward(parameters + layer.w, n, dy, x, gradient + layer.w, gradient + layer.b, dx);
      };
      if (k == 0) {
        run(pooled, d_pooled);
        break;
      }
      const typename Memory::Layer& below = memory.layers[k - 1];
      const std::int64_t stride = layer.dense.input_stride();
      const bool dropped = dropout_ > 0.0;
      std::vector<T>& buffer = k % 2 == 0 ? memory.d_below : memory.d_above;
      buffer.resize(below.values.size());
      run({dropped ? below.fed.data() : below.values.data(), stride}, {buffer.data(), stride});
      for (std::size_t i = 0; i < buffer.size(); ++i) {
        buffer[i] *= dropped ? below.factors[i] * derivative(below.values[i]) : derivative(below.values[i]);
      }
      dy = {buffer.data(), stride};
    }
  }

 private:
  struct Layer {
    Dense<T> dense;
    std::int64_t w, b;    ///< offsets in the parameter buffer
    std::int64_t packed;  ///< offset in the packed weights
  };

  std::size_t hidden() const noexcept { return layers_.size() - 1; }

  void activate(std::int64_t count, T* values) const noexcept {
    for (std::int64_t i = 0; i < count; i += kLanes<T>) {
      const Pack<T> x = load(values + i);
      switch (activation_) {
        case HeadActivation::selu:
          store(values + i, Selu::value(x));
          break;
        case HeadActivation::relu:
          store(values + i, math::relu(x));
          break;
        case HeadActivation::tanh:
          store(values + i, math::tanh(x));
          break;
      }
    }
  }

  T derivative(T value) const noexcept {
    switch (activation_) {
      case HeadActivation::selu:
        return Selu::derivative(value);
      case HeadActivation::relu:
        return math::relu_derivative(value);
      case HeadActivation::tanh:
        break;
    }
    return math::tanh_derivative(value);
  }

  /// fed = values ⊙ factors + offsets. Plain dropout (Srivastava et al. 2014) sets units to 0 and divides the others by
  /// the probability q to keep them. Alpha dropout (Klambauer et al. 2017, section "New dropout technique") sets units
  /// to α' = −λα, the lower limit of SELU, and then applies a·x + b, which gives back mean 0 and variance 1: a = (q +
  /// α'² q (1 − q))^−½, b = −a (1 − q) α'.
  void drop(std::int64_t n, std::int64_t size, std::uint64_t seed, std::size_t layer,
            typename Memory::Layer& kept) const {
    const double q = 1.0 - dropout_;
    const bool alpha = activation_ == HeadActivation::selu;
    const double a = alpha ? 1.0 / std::sqrt(q + Selu::kLowest * Selu::kLowest * q * dropout_) : 1.0 / q;
    const double b = alpha ? -a * dropout_ * Selu::kLowest : 0.0;
    const auto factor = static_cast<T>(a), offset = static_cast<T>(b);
    const auto dropped = static_cast<T>(alpha ? a * Selu::kLowest + b : 0.0);
    const std::int64_t stride = padded<T>(size);
    kept.factors.resize(kept.values.size());
    kept.fed.resize(kept.values.size());
    // A stream of its own, apart from those of the masks of the recurrent layers.
    const std::uint64_t stream = mix(mix(seed, 0x6865616400000000U), layer);
    for (std::int64_t i = 0; i < n; ++i) {
      T* const factors = kept.factors.data() + i * stride;
      random_factors(stream, dropout_, T{0}, factor, i, 1, 0, size, factors);
      std::fill(factors + size, factors + stride, T{0});
      const T* const from = kept.values.data() + i * stride;
      T* const to = kept.fed.data() + i * stride;
      for (std::int64_t k = 0; k < size; ++k) to[k] = factors[k] == T{0} ? dropped : from[k] * factors[k] + offset;
      std::fill(to + size, to + stride, T{0});
    }
  }

  HeadActivation activation_;
  double dropout_;
  std::vector<Layer> layers_;  ///< the last one gives the scores
  std::int64_t packed_size_ = 0;
};

/// Softmax of K scores in place.
template <class T>
void softmax(std::int64_t outputs, T* scores) noexcept {
  const T largest = *std::max_element(scores, scores + outputs);
  T sum{0};
  for (std::int64_t k = 0; k < outputs; ++k) {
    scores[k] = math::exp(scores[k] - largest);
    sum += scores[k];
  }
  for (std::int64_t k = 0; k < outputs; ++k) scores[k] /= sum;
}

LSTMCORE_END_NAMESPACE
