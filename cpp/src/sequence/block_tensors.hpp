// The tensors of layers that are blocks: mLSTM layers ('M'), and the mLSTM ('m') and sLSTM ('s') blocks of xLSTM.
#pragma once

#include "base/namespace.hpp"

#include <cstdint>
#include <string>
#include <vector>

LSTMCORE_BEGIN_NAMESPACE

/// Steps that the causal convolution of an xLSTM block sees: this one and those before it.
inline constexpr std::int64_t kConvSteps = 4;

struct BlockSizes {
  char kind = 'M';
  std::int64_t input = 0, hidden = 0, heads = 1;
  std::int64_t groups = 1;  ///< directions of the layer below whose outputs stand side by side in the input
  bool projects = false;    ///< xLSTM: the input is not the residual stream already and is projected to it
  bool last = false;        ///< xLSTM: outputs are those of the stack, and normalised

  /// Units inside the block: an mLSTM block works on twice as many.
  std::int64_t inner() const noexcept { return kind == 'm' ? 2 * hidden : hidden; }
  /// Units of the gated MLP behind an sLSTM: 4/3 of H.
  std::int64_t mlp() const noexcept { return (4 * hidden + 2) / 3; }
};

/// Offsets in the parameter buffer; −1: the block has no such tensor.
struct BlockTensors {
  std::int64_t W = -1, R = -1, b = -1;
  std::int64_t W_in = -1, b_in = -1, norm = -1, W_up = -1, conv = -1, conv_b = -1, W_q = -1, W_k = -1, W_v = -1;
  std::int64_t W_if = -1, b_if = -1, norm_h = -1, skip = -1, W_down = -1;
  std::int64_t norm_mlp = -1, W_mlp_up = -1, W_mlp_down = -1, norm_out = -1;
};

/// add(name, shape) → offset, called in the order of the buffer.
template <class Add>
BlockTensors block_tensors(const BlockSizes& s, Add&& add) {
  BlockTensors at;
  const std::int64_t H = s.hidden;
  if (s.kind == 'M') {
    at.W = add("W", {4 * H + 2 * s.heads, s.input});
    at.b = add("b", {4 * H + 2 * s.heads});
    return at;
  }
  if (s.projects) {
    at.W_in = add("W_in", {H, s.input});
    at.b_in = add("b_in", {H});
  }
  at.norm = add("norm", {H});
  const std::int64_t inner = s.inner();
  if (s.kind == 'm') at.W_up = add("W_up", {2 * inner, H});
  at.conv = add("conv", {inner, kConvSteps});
  at.conv_b = add("conv_b", {inner});
  if (s.kind == 'm') {
    at.W_q = add("W_q", {inner, inner / s.heads});
    at.W_k = add("W_k", {inner, inner / s.heads});
    at.W_v = add("W_v", {inner, inner / s.heads});
    at.W_if = add("W_if", {2 * s.heads, 3 * inner});
    at.b_if = add("b_if", {2 * s.heads});
    at.norm_h = add("norm_h", {inner});
    at.skip = add("skip", {inner});
    at.W_down = add("W_down", {H, inner});
  } else {
    at.W = add("W", {4 * H, H});
    at.R = add("R", {4 * H, H / s.heads});
    at.b = add("b", {4 * H});
    at.norm_h = add("norm_h", {H});
    at.norm_mlp = add("norm_mlp", {H});
    at.W_mlp_up = add("W_mlp_up", {2 * s.mlp(), H});
    at.W_mlp_down = add("W_mlp_down", {H, s.mlp()});
  }
  if (s.last) at.norm_out = add("norm_out", {H});
  return at;
}

LSTMCORE_END_NAMESPACE
