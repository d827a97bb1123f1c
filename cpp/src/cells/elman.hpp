// Simple recurrent network (Elman 1990): h = φ(W x + R h₋ + b), φ = tanh or max(·, 0).
//
// Layer-normalised (Ba, Kiros & Hinton 2016): h = φ(LN(W x) + LN(R h₋) + b).
#pragma once

#include "cells/cell.hpp"

LSTMCORE_BEGIN_NAMESPACE

enum class Nonlinearity { tanh, relu };

template <Nonlinearity kNonlinearity, class V>
V apply(V a) noexcept {
  return kNonlinearity == Nonlinearity::tanh ? math::tanh(a) : math::relu(a);
}
/// Slope from the value.
template <Nonlinearity kNonlinearity, class V>
V slope(V h) noexcept {
  return kNonlinearity == Nonlinearity::tanh ? math::tanh_derivative(h) : math::relu_derivative(h);
}

template <Nonlinearity kNonlinearity, bool kLayerNorm = false>
struct Elman : CellDefaults {
  static constexpr const char* kName = "elman";
  static constexpr const char* kSource = "Elman 1990";
  static constexpr int kGates = 1;
  static constexpr std::array<const char*, 1> kGateNames = {"a"};
  static constexpr bool kNormalised = kLayerNorm;

  template <class V>
  static void forward(CellForward<V, Elman>& s) noexcept {
    s.h = apply<kNonlinearity>(s.gate[0]);
    s.gate[0] = s.h;
  }

  template <class V>
  static void backward(CellBackward<V, Elman>& s) noexcept {
    s.d_gate[0] = s.dh * slope<kNonlinearity>(s.h);
    s.dh_previous = V{};
    s.dh_fed = V{};
  }
};

LSTMCORE_END_NAMESPACE
