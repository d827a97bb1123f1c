// The original long short-term memory (Hochreiter & Schmidhuber 1997), without a forget gate: ∂s/∂s₋ = 1, the constant
// error carousel.
//
//   i = σ(a_i)   o = σ(a_o)   s = s₋ + i ⊙ (4σ(a_g) − 2)   h = o ⊙ (2σ(s) − 1)      (eqs. 3 to 9; squashing as in
//   section 4 of the paper's appendix: g in (−2, 2), h in (−1, 1))
//
// Units of one memory cell block share their i and o: the engine gives every unit a copy of its block's weights, and
// adds up their gradients (sequence/weights.hpp). kGateRecurrence: i₋ and o₋ feed R beside h₋. kTruncate: the paper's
// gradient, in which errors that reach a pre-activation change its weights and flow no further back in time.
#pragma once

#include "cells/cell.hpp"

LSTMCORE_BEGIN_NAMESPACE

template <bool kGateRecurrence, bool kTruncate>
struct Lstm1997 : CellDefaults {
  static constexpr const char* kName = "lstm1997";
  static constexpr const char* kSource = "Hochreiter & Schmidhuber 1997";
  static constexpr int kGates = 3;
  static constexpr std::array<const char*, 3> kGateNames = {"i", "g", "o"};
  static constexpr int kFeedback = kGateRecurrence ? 2 : 0;
  static constexpr int kStates = 1 + kFeedback;
  static constexpr std::array<const char*, kStates + 1> kStateNames = [] {
    std::array<const char*, kStates + 1> names{"h", "s"};
    if constexpr (kGateRecurrence) {
      names[2] = "i";
      names[3] = "o";
    }
    return names;
  }();
  static constexpr std::array<bool, 4> kSharedGates = {true, false, true, false};
  static constexpr bool kTruncated = kTruncate;
  static constexpr bool kHasCandidate = true;

  template <class V>
  static void forward(CellForward<V, Lstm1997>& s) noexcept {
    auto& [i, g, o] = s.gate;
    i = math::logistic(i);
    g = squash(g);  // 4σ(a) − 2 = 2·tanh(a / 2), which keeps the digits of a small a
    o = math::logistic(o);
    s.next[0] = s.previous[0] + i * (constant<V>(2) * g * s.keep);
    s.h = o * squash(s.next[0]);
    if constexpr (kGateRecurrence) {
      s.next[1] = i;
      s.next[2] = o;
    }
  }

  template <class V>
  static void backward(CellBackward<V, Lstm1997>& s) noexcept {
    const auto& [i, g, o] = s.gate;
    const V squashed = squash(s.next[0]);
    const V ds = s.d_state[0] + s.dh * o * (constant<V>(0.5) * math::tanh_derivative(squashed));
    V d_i = ds * (constant<V>(2) * g * s.keep);
    V d_o = s.dh * squashed;
    if constexpr (kGateRecurrence) {
      d_i += s.d_state[1];
      d_o += s.d_state[2];
      s.d_state[1] = s.d_state[2] = V{};
    }
    s.d_gate[0] = d_i * math::logistic_derivative(i);
    s.d_gate[1] = ds * i * s.keep * math::tanh_derivative(g);
    s.d_gate[2] = d_o * math::logistic_derivative(o);
    s.d_state[0] = ds;
    s.dh_previous = V{};
    s.dh_fed = V{};
  }

 private:
  /// 2σ(s) − 1.
  template <class V>
  static V squash(V s) noexcept {
    return math::tanh(constant<V>(0.5) * s);
  }
};

LSTMCORE_END_NAMESPACE
