// The tensors of a whole network, in the order of its parameter buffer.
#pragma once

#include "sequence/shape.hpp"

#include <lstmcore/model.hpp>

LSTMCORE_BEGIN_NAMESPACE

inline std::vector<TensorInfo> network_tensors(const ModelConfig& config) {
  const StackShape shape(config.recurrent);
  std::vector<TensorInfo> tensors = recurrent_tensors(shape);
  tensors.push_back({"head_W", {config.outputs, shape.directions * shape.output}, total_count(tensors)});
  tensors.push_back({"head_b", {config.outputs}, total_count(tensors)});
  return tensors;
}

LSTMCORE_END_NAMESPACE
