// Layers and models of float64. One translation unit, since both instantiate the same passes over time.
#include "engine/factories.hpp"
#include "engine/model_engine.hpp"
#include "engine/optimiser_engine.hpp"
#include "engine/recurrent_engine.hpp"

LSTMCORE_BEGIN_NAMESPACE

template <>
std::unique_ptr<engine::RecurrentEngine> make_recurrent<double>(const RecurrentConfig& config) {
  return std::make_unique<RecurrentLayers<double>>(config);
}

template <>
std::unique_ptr<engine::ModelEngine> make_model<double>(const ModelConfig& config) {
  return std::make_unique<ModelNetwork<double>>(config);
}

template <>
std::unique_ptr<engine::OptimiserEngine> make_optimiser<double>(const TrainerConfig& config,
                                                                const std::vector<TensorInfo>& tensors) {
  return std::make_unique<FlatOptimiser<double>>(config, tensors);
}

LSTMCORE_END_NAMESPACE
