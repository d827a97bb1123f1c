// Long short-term memory with a forget gate (Gers, Schmidhuber & Cummins 2000), with peepholes (Gers & Schmidhuber
// 2000), and the eight variants of either that Greff et al. (2017) compared.
//
//   i = σ(W_i x + R_i h₋ + P_i ⊙ c₋ + b_i)    f = σ(W_f x + R_f h₋ + P_f ⊙ c₋ + b_f)
//   g = tanh(W_g x + R_g h₋ + b_g)            o = σ(W_o x + R_o h₋ + P_o ⊙ c + b_o)
//   c = f ⊙ c₋ + i ⊙ g                        h = o ⊙ tanh(c)
//
// NIG, NFG, NOG: i, f or o is 1 and has no weights. NIAF: g = its pre-activation. NOAF: h = o ⊙ c. CIFG: f = 1 − i.
// FGR: i₋, f₋ and o₋ feed the gates i, f and o through matrices of their own. NP, no peepholes, is the cell `lstm`.
// Layer-normalised (Ba, Kiros & Hinton 2016): gates from LN(W x) + LN(R h₋) + b, and h = o ⊙ tanh(LN(c)).
#pragma once

#include "cells/cell.hpp"

LSTMCORE_BEGIN_NAMESPACE

enum class LstmVariant { vanilla, nig, nfg, nog, niaf, noaf, cifg, fgr };

template <LstmVariant kVariant, bool kPeephole, bool kLayerNorm>
struct LstmFamily : CellDefaults {
  static constexpr const char* kName = kPeephole ? "peephole" : "lstm";
  static constexpr const char* kSource = kPeephole ? "Gers & Schmidhuber 2000" : "Gers, Schmidhuber & Cummins 2000";

  static constexpr bool kHasI = kVariant != LstmVariant::nig;
  static constexpr bool kHasF = kVariant != LstmVariant::nfg && kVariant != LstmVariant::cifg;
  static constexpr bool kHasO = kVariant != LstmVariant::nog;
  static constexpr std::size_t kI = 0, kF = kHasI, kG = kF + kHasF, kO = kG + 1;
  static constexpr int kGates = static_cast<int>(kG) + 1 + kHasO;
  static constexpr std::array<const char*, kGates> kGateNames = [] {
    std::array<const char*, kGates> names{};
    if constexpr (kHasI) names[kI] = "i";
    if constexpr (kHasF) names[kF] = "f";
    names[kG] = "g";
    if constexpr (kHasO) names[kO] = "o";
    return names;
  }();

  static constexpr int kFeedback = kVariant == LstmVariant::fgr ? 3 : 0;
  static constexpr const char* kFeedbackName = kFeedback > 0 ? "RG" : "";
  static constexpr int kStates = 1 + kFeedback;
  static constexpr std::array<const char*, kStates + 1> kStateNames = [] {
    std::array<const char*, kStates + 1> names{"h", "c"};
    if constexpr (kFeedback > 0) {
      names[2] = "i";
      names[3] = "f";
      names[4] = "o";
    }
    return names;
  }();

  static constexpr int kVectors = kPeephole ? kHasI + kHasF + kHasO : 0;
  static constexpr const char* kVectorName = "P";
  static constexpr std::size_t kPI = 0, kPF = kHasI, kPO = kPF + kHasF;
  static constexpr std::array<VectorTerm, kVectors> kVectorTerms = [] {
    std::array<VectorTerm, kVectors> terms{};
    if constexpr (kPeephole && kHasI) terms[kPI] = {static_cast<int>(kI), VectorInput::previous_state, 0};
    if constexpr (kPeephole && kHasF) terms[kPF] = {static_cast<int>(kF), VectorInput::previous_state, 0};
    if constexpr (kPeephole && kHasO) terms[kPO] = {static_cast<int>(kO), VectorInput::next_state, 0};
    return terms;
  }();

  static constexpr bool kNormalised = kLayerNorm;
  static constexpr bool kNormalisedState = kLayerNorm;
  static constexpr int kOutputGate = static_cast<int>(kO);
  static constexpr bool kHasCandidate = true;

  template <class V>
  static void forward(CellForward<V, LstmFamily>& s) noexcept {
    V& g = s.gate[kG];
    if constexpr (kVariant != LstmVariant::niaf) g = math::tanh(g);
    V c = g * s.keep;
    if constexpr (kHasI) {
      V& i = s.gate[kI];
      if constexpr (kPeephole) i += s.vector[kPI] * s.previous[0];
      i = math::logistic(i);
      c = i * c;
    }
    if constexpr (kHasF) {
      V& f = s.gate[kF];
      if constexpr (kPeephole) f += s.vector[kPF] * s.previous[0];
      f = math::logistic(f);
      c = f * s.previous[0] + c;
    } else if constexpr (kVariant == LstmVariant::cifg) {
      c = (constant<V>(1) - s.gate[kI]) * s.previous[0] + c;
    } else {
      c = s.previous[0] + c;
    }
    s.next[0] = c;
    if constexpr (kHasO) {
      V& o = s.gate[kO];
      if constexpr (kPeephole) o += s.vector[kPO] * c;
      o = math::logistic(o);
    }
    if constexpr (kFeedback > 0) {
      s.next[1] = s.gate[kI];
      s.next[2] = s.gate[kF];
      s.next[3] = s.gate[kO];
    }
    if constexpr (!kNormalisedState) {
      const V squashed = squash(c);
      if constexpr (kHasO) {
        s.h = s.gate[kO] * squashed;
      } else {
        s.h = squashed;
      }
    }
  }

  template <class V>
  static void backward(CellBackward<V, LstmFamily>& s) noexcept {
    V dc = s.d_state[0];
    V d_o{};  // of the activation
    if constexpr (kNormalisedState) {
      d_o = s.dh;
    } else {
      const V squashed = squash(s.next[0]);  // cheaper to compute again than to store and load
      V d_squashed = s.dh;
      if constexpr (kHasO) {
        d_o = s.dh * squashed;
        d_squashed = s.dh * s.gate[kO];
      }
      if constexpr (kVariant == LstmVariant::noaf) {
        dc = dc + d_squashed;
      } else {
        dc = dc + d_squashed * math::tanh_derivative(squashed);
      }
    }
    if constexpr (kHasO) {
      if constexpr (kFeedback > 0) d_o += s.d_state[3];
      s.d_gate[kO] = d_o * math::logistic_derivative(s.gate[kO]);
      if constexpr (kPeephole) dc += s.vector[kPO] * s.d_gate[kO];
    }
    const V g = s.gate[kG];
    V d_g = dc * s.keep;
    V dc_previous = dc;
    if constexpr (kHasI) {
      const V i = s.gate[kI];
      V d_i = dc * g * s.keep;
      if constexpr (kVariant == LstmVariant::cifg) {
        d_i -= dc * s.previous[0];
        dc_previous = dc * (constant<V>(1) - i);
      }
      if constexpr (kFeedback > 0) d_i += s.d_state[1];
      s.d_gate[kI] = d_i * math::logistic_derivative(i);
      d_g = d_g * i;
    }
    if constexpr (kHasF) {
      const V f = s.gate[kF];
      V d_f = dc * s.previous[0];
      if constexpr (kFeedback > 0) d_f += s.d_state[2];
      s.d_gate[kF] = d_f * math::logistic_derivative(f);
      dc_previous = dc * f;
    }
    if constexpr (kVariant != LstmVariant::niaf) d_g = d_g * math::tanh_derivative(g);
    s.d_gate[kG] = d_g;
    if constexpr (kPeephole && kHasI) dc_previous += s.vector[kPI] * s.d_gate[kI];
    if constexpr (kPeephole && kHasF) dc_previous += s.vector[kPF] * s.d_gate[kF];
    s.d_state[0] = dc_previous;
    if constexpr (kFeedback > 0) s.d_state[1] = s.d_state[2] = s.d_state[3] = V{};
    s.dh_previous = V{};
    s.dh_fed = V{};
  }

  /// h from the output gate and the normalised c.
  template <class V>
  static V output_forward(V o, V c) noexcept {
    return o * math::tanh(c);
  }
  template <class V>
  static void output_backward(V o, V c, V dh, V& d_o, V& d_c) noexcept {
    const V squashed = math::tanh(c);
    d_o = dh * squashed;
    d_c = dh * o * math::tanh_derivative(squashed);
  }

 private:
  template <class V>
  static V squash(V c) noexcept {
    return kVariant == LstmVariant::noaf ? c : math::tanh(c);
  }
};

template <LstmVariant kVariant = LstmVariant::vanilla, bool kLayerNorm = false>
using Lstm = LstmFamily<kVariant, false, kLayerNorm>;
template <LstmVariant kVariant = LstmVariant::vanilla, bool kLayerNorm = false>
using Peephole = LstmFamily<kVariant, true, kLayerNorm>;

LSTMCORE_END_NAMESPACE
