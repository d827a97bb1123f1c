// mLSTM (Beck et al. 2024): a matrix memory that is written with keys and values and read with queries.
//
//   log f = log σ(a_f), or a_f with the exponential forget gate      k: W_k x / √d, d the width of a head
//   m = max(m₋ + log f, a_i)      i = exp(a_i − m)      f = exp(m₋ + log f − m)
//   C = f C₋ + i v kᵀ             n = f n₋ + i k        h = σ(a_o) ⊙ C q / max(|nᵀ q|, exp(−m))
//
// No R: nothing of a step feeds the gates of the next, so that many steps can be computed at once. The sums over time
// are the driver's business (sequence/matrix_memory.hpp); here stands what one step is made of.
#pragma once

#include "math/functions.hpp"

#include <array>

LSTMCORE_BEGIN_NAMESPACE

struct Mlstm {
  static constexpr const char* kName = "mlstm";
  static constexpr const char* kSource = "Beck et al. 2024";
  static constexpr std::array<const char*, 6> kGateNames = {"q", "k", "v", "i", "f", "o"};
  static constexpr std::array<const char*, 4> kStateNames = {"h", "C", "n", "m"};
  static constexpr bool kHasCandidate = false;

  template <class V>
  static V log_forget(bool exponential, V a_f) noexcept {
    return exponential ? a_f : math::log_logistic(a_f);
  }
  template <class V>
  static V forget_slope(bool exponential, V a_f) noexcept {
    return exponential ? constant<V>(1) : math::logistic(-a_f);
  }

  /// What C q is divided by: max(|nᵀ q|, exp(−m)). active: the sign of nᵀ q where that decides, else 0.
  template <class T>
  static T normaliser(T n_q, T exp_minus_m, T& active) noexcept {
    const T size = n_q < T{0} ? -n_q : n_q;
    active = size > exp_minus_m ? (n_q < T{0} ? T{-1} : T{1}) : T{0};
    return size > exp_minus_m ? size : exp_minus_m;
  }
  /// dh: gradient of h = r / normaliser, r = C q. Gradient of r is dh / normaliser; that of nᵀ q comes back.
  template <class T>
  static T normaliser_backward(T h_dh, T inverse, T active) noexcept {
    return -active * h_dh * inverse;
  }
};

LSTMCORE_END_NAMESPACE
