// What a Model holds; Trainer reaches into it.
#pragma once

#include "engine/engine.hpp"

namespace lstmcore {

struct Model::Impl {
  std::unique_ptr<engine::ModelEngine> engine;
  std::map<std::string, std::string> metadata;
  std::vector<double> input_mean, input_scale, output_mean, output_scale;
};

}  // namespace lstmcore
