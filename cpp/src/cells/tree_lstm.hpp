// Long short-term memory over trees (Tai, Socher & Manning 2015): a node reads its input x and the states h_k, c_k of
// its children.
//
// Child-sum (equations 2 to 8), any number of children without order:
//
//   h̃ = Σ_k h_k
//   i = σ(W_i x + U_i h̃ + b_i)    f_k = σ(W_f x + U_f h_k + b_f)    o = σ(W_o x + U_o h̃ + b_o)
//   u = tanh(W_u x + U_u h̃ + b_u)
//   c = i ⊙ u + Σ_k f_k ⊙ c_k      h = o ⊙ tanh(c)
//
// N-ary (equations 9 to 14), at most A children at positions 1 … A: U_i h̃ becomes Σ_l U_i^l h_l, likewise for o and u,
// and U_f h_k becomes Σ_l U_f^{kl} h_l. A missing child counts as h = c = 0.
//
// Products and sums over children are the driver's (sequence/tree_pass.hpp). Here stands what happens to one unit: of a
// node, and of the edge to one child.
#pragma once

#include "math/functions.hpp"

#include <array>

LSTMCORE_BEGIN_NAMESPACE

struct TreeLstm {
  /// Row blocks of W and b, in order.
  static constexpr std::array<const char*, 4> kGateNames = {"i", "f", "u", "o"};
  static constexpr std::size_t kForgetGate = 1;

  template <class V>
  struct Node {
    V i, u, o;  ///< pre-activations, then activations
    V c;        ///< Σ f_k ⊙ c_k, then the node's c
    V h;
  };

  template <class V>
  static void forward(Node<V>& s) noexcept {
    s.i = math::logistic(s.i);
    s.u = math::tanh(s.u);
    s.o = math::logistic(s.o);
    s.c = s.i * s.u + s.c;
    s.h = s.o * math::tanh(s.c);
  }

  template <class V>
  struct NodeGradient {
    V dh;             ///< in
    V dc;             ///< in: what reaches c from outside; out: all of it
    V d_i, d_u, d_o;  ///< out: of pre-activations
  };

  /// s: what forward left; h is not read.
  template <class V>
  static void backward(const Node<V>& s, NodeGradient<V>& d) noexcept {
    const V squashed = math::tanh(s.c);  // cheaper to compute again than to store and load
    d.d_o = d.dh * squashed * math::logistic_derivative(s.o);
    d.dc = d.dh * s.o * math::tanh_derivative(squashed) + d.dc;
    d.d_i = d.dc * s.u * math::logistic_derivative(s.i);
    d.d_u = d.dc * s.i * math::tanh_derivative(s.u);
  }

  /// The edge to a child: f_k from its pre-activation; returns f_k ⊙ c_k.
  template <class V>
  static V edge_forward(V& f, V c_child) noexcept {
    f = math::logistic(f);
    return f * c_child;
  }

  /// f: in f_k, out the gradient of its pre-activation. Returns the gradient of c_k. dc: of the parent's c, all of it.
  template <class V>
  static V edge_backward(V& f, V c_child, V dc) noexcept {
    const V dc_child = dc * f;
    f = dc * c_child * math::logistic_derivative(f);
    return dc_child;
  }
};

LSTMCORE_END_NAMESPACE
