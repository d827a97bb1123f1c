// sLSTM (Beck et al. 2024): exponential gating, a normaliser state n and a stabiliser state m.
//
//   a = m₋ + log f     log f = log σ(a_f), or a_f with the exponential forget gate
//   m = max(a_i, a), and m = a_i where n₋ = 0, as at the start of a sequence
//   i = exp(a_i − m)   f = exp(a − m)   c = f ⊙ c₋ + i ⊙ tanh(a_z)   n = f ⊙ n₋ + i   h = σ(a_o) ⊙ c / n
//
// Heads make R block-diagonal; the driver leaves out the zeros. The gradient is that of these equations as they stand,
// with m among the states, so that gradients of a final m are right too; the maximum passes its gradient to the larger
// argument, to a_i when equal.
#pragma once

#include "cells/cell.hpp"

LSTMCORE_BEGIN_NAMESPACE

template <bool kExponentialForget>
struct Slstm : CellDefaults {
  static constexpr const char* kName = "slstm";
  static constexpr const char* kSource = "Beck et al. 2024";
  static constexpr int kGates = 4;
  static constexpr std::array<const char*, 4> kGateNames = {"i", "f", "z", "o"};
  static constexpr int kStates = 3;
  static constexpr std::array<const char*, 4> kStateNames = {"h", "c", "n", "m"};
  static constexpr bool kHasCandidate = true;

  template <class V>
  static void forward(CellForward<V, Slstm>& s) noexcept {
    const V a_i = s.gate[0];
    const V log_f = log_forget(s.gate[1]);
    const V z = math::tanh(s.gate[2]);
    const V o = math::logistic(s.gate[3]);
    const auto& [c_, n_, m_] = s.previous;
    const V a = m_ + log_f;
    const V m = stabiliser(a_i, a, n_);
    const V i = math::exp(a_i - m);
    const V f = math::exp(a - m);
    const V c = f * c_ + i * (z * s.keep);
    const V n = f * n_ + i;
    s.next = {c, n, m};
    s.h = o * (c / n);
    s.gate[2] = z;  // a_i and a_f stay: backward asks which of a_i and a was larger
    s.gate[3] = o;
  }

  template <class V>
  static void backward(CellBackward<V, Slstm>& s) noexcept {
    const V a_i = s.gate[0];
    const V a_f = s.gate[1];
    const V z = s.gate[2];
    const V o = s.gate[3];
    const auto& [c_, n_, m_] = s.previous;
    const auto& [c, n, m] = s.next;
    const V a = m_ + log_forget(a_f);
    const V i = math::exp(a_i - m);
    const V f = math::exp(a - m);
    const V ratio = c / n;
    const V d_ratio = s.dh * o / n;
    const V dc = s.d_state[0] + d_ratio;
    const V dn = s.d_state[1] - d_ratio * ratio;
    const V d_log_i = (dc * z * s.keep + dn) * i;
    const V d_log_f = (dc * c_ + dn * n_) * f;
    const V dm = s.d_state[2] - d_log_i - d_log_f;
    const auto from_input = (n_ == V{}) | (a_i >= a);
    const V d_a = d_log_f + (from_input ? V{} : dm);
    s.d_gate[0] = d_log_i + (from_input ? dm : V{});
    s.d_gate[1] = d_a * forget_slope(a_f);
    s.d_gate[2] = dc * i * s.keep * math::tanh_derivative(z);
    s.d_gate[3] = s.dh * ratio * math::logistic_derivative(o);
    s.d_state = {dc * f, dn * f, d_a};
    s.dh_previous = V{};
    s.dh_fed = V{};
  }

 private:
  template <class V>
  static V log_forget(V a_f) noexcept {
    return kExponentialForget ? a_f : math::log_logistic(a_f);
  }
  template <class V>
  static V forget_slope(V a_f) noexcept {
    return kExponentialForget ? constant<V>(1) : math::logistic(-a_f);
  }
  template <class V>
  static V stabiliser(V a_i, V a, V n_previous) noexcept {
    return ((n_previous == V{}) | (a_i >= a)) ? a_i : a;
  }
};

LSTMCORE_END_NAMESPACE
