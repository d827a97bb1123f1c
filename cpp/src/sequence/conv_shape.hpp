// Sizes of a stack of convolutional layers, and where each of its tensors lies in the flat parameter buffer.
#pragma once

#include "kernels/convolution_gradient.hpp"
#include "sequence/shape.hpp"

#include <lstmcore/conv.hpp>

LSTMCORE_BEGIN_NAMESPACE

/// The dense layers with the same cell, channels as features.
inline RecurrentConfig dense_config(const ConvConfig& config) {
  RecurrentConfig dense;
  dense.cell = config.cell;
  dense.input_size = config.channels;
  dense.hidden_size = config.hidden_channels;
  dense.num_layers = config.num_layers;
  dense.dtype = config.dtype;
  dense.seed = config.seed;
  dense.n_threads = config.n_threads;
  return dense;
}

struct ConvShape {
  StackShape dense;
  Taps taps;
  ImageShape image;
  ConvolutionMethod method = ConvolutionMethod::direct;

  explicit ConvShape(const ConvConfig& config)
      : dense(dense_config(config)), taps(config.kernel_size, config.dilation, config.height, config.width) {
    // Tiles pay where most of them are full.
    if (config.kernel_size == 3 && config.dilation == 1 && config.height >= 8 && config.width >= 8) {
      method = ConvolutionMethod::winograd;
    }
    image.height = config.height;
    image.width = config.width;
    image.border_y = taps.reach_y * taps.dilation;
    image.border_x = taps.reach_x * taps.dilation;
    const std::int64_t unit = method == ConvolutionMethod::winograd ? winograd::kOut : 1;
    const auto whole = [unit](std::int64_t count) { return (count + unit - 1) / unit * unit; };
    image.lines = whole(image.height) + 2 * image.border_y;
    image.pitch = whole(image.width) + 2 * image.border_x;
  }

  /// Lines that a thread takes at once. Weights are read once a strip, and 32 tiles fill the register tiles better than
  /// 16 (by a tenth at 16 channels).
  std::int64_t strip_lines() const noexcept {
    constexpr std::int64_t kPixels = 512;
    const std::int64_t unit = method == ConvolutionMethod::winograd ? winograd::kOut : 1;
    return std::max<std::int64_t>(1, kPixels / image.width / unit) * unit;
  }
  std::int64_t strips() const noexcept { return (image.height + strip_lines() - 1) / strip_lines(); }
};

/// Offsets of one layer's tensors in the parameter buffer; −1 where the cell has no such tensor.
struct ConvTensors {
  std::int64_t W = -1, R = -1, b = -1, bR = -1, P = -1;
};

inline std::vector<TensorInfo> conv_tensors(const ConvShape& shape, std::vector<ConvTensors>* layers = nullptr) {
  std::vector<TensorInfo> tensors;
  std::int64_t offset = 0;
  const std::int64_t k = shape.taps.size;
  const std::int64_t rows = shape.dense.gate_rows();
  const std::int64_t hidden = shape.dense.hidden;
  for (std::int64_t layer = 0; layer < shape.dense.layers; ++layer) {
    const std::string suffix = "_l" + std::to_string(layer);
    const auto add = [&](const std::string& name, std::vector<std::int64_t> extents) {
      tensors.push_back({name + suffix, std::move(extents), offset});
      const std::int64_t at = offset;
      offset += tensors.back().count();
      return at;
    };
    ConvTensors at;
    at.W = add("W", {rows, shape.dense.layer_input(layer), k, k});
    at.R = add("R", {rows, hidden, k, k});
    at.b = add("b", {rows});
    if (shape.dense.cell.recurrent_bias) at.bR = add("bR", {rows});
    if (shape.dense.cell.vectors > 0) {
      at.P = add(shape.dense.cell.vector_name,
                 {static_cast<std::int64_t>(shape.dense.cell.vectors), hidden, shape.image.height, shape.image.width});
    }
    if (layers != nullptr) layers->push_back(at);
  }
  return tensors;
}

LSTMCORE_END_NAMESPACE
