#include "engine/factories.hpp"
#include "engine/recurrent_engine.hpp"

LSTMCORE_BEGIN_NAMESPACE

template <>
std::unique_ptr<engine::RecurrentEngine> make_recurrent<float>(const RecurrentConfig& config) {
  return visit_cell(config.cell, config.cell_options, [&](auto cell) -> std::unique_ptr<engine::RecurrentEngine> {
    return std::make_unique<RecurrentLayers<float, decltype(cell)>>(config);
  });
}

LSTMCORE_END_NAMESPACE
