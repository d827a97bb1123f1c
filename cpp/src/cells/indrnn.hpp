// Independently recurrent network (Li et al. 2018): h = φ(W x + u ⊙ h₋ + b), φ = max(·, 0) or tanh. Each unit sees only
// its own past, so that its memory is u^t and nothing else.
#pragma once

#include "cells/elman.hpp"

LSTMCORE_BEGIN_NAMESPACE

template <Nonlinearity kNonlinearity>
struct IndRnn : CellDefaults {
  static constexpr const char* kName = "indrnn";
  static constexpr const char* kSource = "Li et al. 2018";
  static constexpr int kGates = 1;
  static constexpr std::array<const char*, 1> kGateNames = {"a"};
  static constexpr bool kRecurrent = false;
  static constexpr int kVectors = 1;
  static constexpr const char* kVectorName = "u";
  static constexpr std::array<VectorTerm, 1> kVectorTerms = {{{0, VectorInput::h_previous, 0}}};

  template <class V>
  static void forward(CellForward<V, IndRnn>& s) noexcept {
    s.h = apply<kNonlinearity>(s.gate[0] + s.vector[0] * s.h_fed);
    s.gate[0] = s.h;
  }

  template <class V>
  static void backward(CellBackward<V, IndRnn>& s) noexcept {
    s.d_gate[0] = s.dh * slope<kNonlinearity>(s.h);
    s.dh_previous = V{};
    s.dh_fed = s.vector[0] * s.d_gate[0];
  }
};

LSTMCORE_END_NAMESPACE
