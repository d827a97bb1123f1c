// One row of attention: a query against the keys of one source, and back.
//
// Rows are padded to whole packs, with zeros. Every sum runs in an order that depends on its length and the width of a
// pack only.
#pragma once

#include "math/functions.hpp"
#include "sequence/dense.hpp"

LSTMCORE_BEGIN_NAMESPACE

template <class T>
struct AttentionScores {
  static constexpr std::int64_t W = kLanes<T>;

  /// scores[j] = vᵀ tanh(q + k_j); A: padded width.
  static void additive(std::int64_t steps, std::int64_t A, Rows<const T> keys, const T* q, const T* v,
                       T* scores) noexcept {
    for (std::int64_t j = 0; j < steps; ++j) {
      Pack<T> sums{};
      const T* const key = keys[j];
      for (std::int64_t a = 0; a < A; a += W) sums += load(v + a) * math::tanh(load(q + a) + load(key + a));
      scores[j] = total(sums);
    }
  }

  /// scores[j] = qᵀ k_j
  static void product(std::int64_t steps, std::int64_t A, Rows<const T> keys, const T* q, T* scores) noexcept {
    for (std::int64_t j = 0; j < steps; ++j) scores[j] = dot(A, q, keys[j]);
  }

  /// In place; the padding becomes zero.
  static void softmax(std::int64_t steps, T* scores) noexcept {
    T highest = scores[0];
    for (std::int64_t j = 1; j < steps; ++j) highest = scores[j] > highest ? scores[j] : highest;
    T sum{0};
    for (std::int64_t j = 0; j < steps; ++j) {
      scores[j] = math::exp(scores[j] - highest);
      sum += scores[j];
    }
    const T factor = T{1} / sum;
    for (std::int64_t j = 0; j < steps; ++j) scores[j] *= factor;
    std::fill(scores + steps, scores + padded<T>(steps), T{0});
  }

  /// to = Σ weights[j]·values_j; E: padded width.
  static void weighted_sum(std::int64_t steps, std::int64_t E, const T* weights, Rows<const T> values, T* to) noexcept {
    std::int64_t e = 0;
    for (; e + 4 * W <= E; e += 4 * W) sum_columns<4>(steps, weights, values.columns(e), to + e);
    for (; e < E; e += W) sum_columns<1>(steps, weights, values.columns(e), to + e);
  }

  /// dc: gradient of the weighted sum. d_values += weights ⊗ dc; slopes: gradients of the scores.
  static void weights_back(std::int64_t steps, std::int64_t E, const T* weights, Rows<const T> values, const T* dc,
                           Rows<T> d_values, T* slopes) noexcept {
    T mean{0};
    for (std::int64_t j = 0; j < steps; ++j) {
      slopes[j] = dot(E, dc, values[j]);
      mean += weights[j] * slopes[j];
      add_scaled(E, weights[j], dc, d_values[j]);
    }
    for (std::int64_t j = 0; j < steps; ++j) slopes[j] = weights[j] * (slopes[j] - mean);
  }

  /// dq is written; d_keys and dv are added to.
  static void additive_back(std::int64_t steps, std::int64_t A, Rows<const T> keys, const T* q, const T* v,
                            const T* slopes, T* dq, Rows<T> d_keys, T* dv) noexcept {
    for (std::int64_t a = 0; a < A; a += W) {
      const Pack<T> query = load(q + a);
      const Pack<T> factor = load(v + a);
      Pack<T> d_query{};
      Pack<T> d_factor{};
      for (std::int64_t j = 0; j < steps; ++j) {
        const Pack<T> value = math::tanh(query + load(keys[j] + a));
        const Pack<T> slope = broadcast(slopes[j]);
        const Pack<T> d = slope * factor * math::tanh_derivative(value);
        d_factor += slope * value;
        d_query += d;
        store(d_keys[j] + a, load(d_keys[j] + a) + d);
      }
      store(dq + a, d_query);
      store(dv + a, load(dv + a) + d_factor);
    }
  }

  /// dq and d_keys are added to.
  static void product_back(std::int64_t steps, std::int64_t A, Rows<const T> keys, const T* q, const T* slopes, T* dq,
                           Rows<T> d_keys) noexcept {
    for (std::int64_t j = 0; j < steps; ++j) {
      add_scaled(A, slopes[j], keys[j], dq);
      add_scaled(A, slopes[j], q, d_keys[j]);
    }
  }

 private:
  static T total(Pack<T> sums) noexcept {
    T result{0};
    for (int lane = 0; lane < W; ++lane) result += sums[lane];
    return result;
  }

  template <int kPacks>
  static void sum_columns(std::int64_t steps, const T* weights, Rows<const T> values, T* to) noexcept {
    Pack<T> sums[kPacks] = {};
    for (std::int64_t j = 0; j < steps; ++j) {
      const Pack<T> weight = broadcast(weights[j]);
      for (int p = 0; p < kPacks; ++p) sums[p] += weight * load(values[j] + p * W);
    }
    for (int p = 0; p < kPacks; ++p) store(to + p * W, sums[p]);
  }
};

LSTMCORE_END_NAMESPACE
