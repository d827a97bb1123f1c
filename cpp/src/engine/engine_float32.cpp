// Layers and models of float32. One translation unit, since both instantiate the same passes over time.
#include "engine/factories.hpp"
#include "engine/model_engine.hpp"
#include "engine/optimiser_engine.hpp"
#include "engine/recurrent_engine.hpp"

LSTMCORE_BEGIN_NAMESPACE

template <>
std::unique_ptr<engine::RecurrentEngine> make_recurrent<float>(const RecurrentConfig& config) {
  return std::make_unique<RecurrentLayers<float>>(config);
}

template <>
std::unique_ptr<engine::ModelEngine> make_model<float>(const ModelConfig& config) {
  return std::make_unique<ModelNetwork<float>>(config);
}

template <>
std::unique_ptr<engine::OptimiserEngine> make_optimiser<float>(const TrainerConfig& config,
                                                               const std::vector<TensorInfo>& tensors) {
  return std::make_unique<FlatOptimiser<float>>(config, tensors);
}

LSTMCORE_END_NAMESPACE
