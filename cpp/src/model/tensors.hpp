// The tensors of a whole network, in the order of its parameter buffer.
#pragma once

#include "sequence/shape.hpp"

#include <lstmcore/model.hpp>

#include <string>
#include <utility>

LSTMCORE_BEGIN_NAMESPACE

/// A: width of the scores of attention, of queries, keys and values of hopfield.
inline std::int64_t pooling_size(const ModelConfig& config, const StackShape& shape) noexcept {
  return config.pooling_size > 0 ? config.pooling_size : shape.directions * shape.output;
}

/// The pooled vector: so many groups of so many columns.
inline std::int64_t pooled_groups(const ModelConfig& config, const StackShape& shape) noexcept {
  return config.pooling == Pooling::hopfield ? config.pooling_patterns : shape.directions;
}
inline std::int64_t pooled_width(const ModelConfig& config, const StackShape& shape) noexcept {
  return config.pooling == Pooling::hopfield ? pooling_size(config, shape) : shape.output;
}

inline std::vector<TensorInfo> network_tensors(const ModelConfig& config) {
  const StackShape shape(config.recurrent);
  std::vector<TensorInfo> tensors = recurrent_tensors(shape);
  const auto add = [&](std::string name, std::vector<std::int64_t> extents) {
    tensors.push_back({std::move(name), std::move(extents), total_count(tensors)});
  };
  const std::int64_t size = pooling_size(config, shape), out = shape.directions * shape.output;
  if (config.pooling == Pooling::attention) {
    add("pool_W", {size, out});
    add("pool_b", {size});
    add("pool_v", {size});
  } else if (config.pooling == Pooling::hopfield) {
    add("pool_Q", {config.pooling_patterns, size});
    add("pool_K", {size, out});
    add("pool_V", {size, out});
  }
  std::int64_t width = pooled_groups(config, shape) * pooled_width(config, shape);
  for (std::size_t layer = 0; layer < config.head_sizes.size(); ++layer) {
    const std::string suffix = "_l" + std::to_string(layer);
    add("head_W" + suffix, {config.head_sizes[layer], width});
    add("head_b" + suffix, {config.head_sizes[layer]});
    width = config.head_sizes[layer];
  }
  add("head_W", {config.outputs, width});
  add("head_b", {config.outputs});
  return tensors;
}

/// −1 where there is no such tensor.
inline std::int64_t offset_of(const std::vector<TensorInfo>& tensors, const std::string& name) noexcept {
  for (const TensorInfo& tensor : tensors) {
    if (tensor.name == name) return tensor.offset;
  }
  return -1;
}

LSTMCORE_END_NAMESPACE
