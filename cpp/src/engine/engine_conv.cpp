// Convolutional layers of both element types.
#include "engine/conv_engine.hpp"
#include "engine/factories.hpp"

LSTMCORE_BEGIN_NAMESPACE

template <>
std::unique_ptr<engine::ConvEngine> make_conv<float>(const ConvConfig& config) {
  return std::make_unique<ConvLayers<float>>(config);
}

template <>
std::unique_ptr<engine::ConvEngine> make_conv<double>(const ConvConfig& config) {
  return std::make_unique<ConvLayers<double>>(config);
}

LSTMCORE_END_NAMESPACE
