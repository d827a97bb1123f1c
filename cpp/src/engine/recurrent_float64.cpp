#include "engine/factories.hpp"
#include "engine/recurrent_engine.hpp"

LSTMCORE_BEGIN_NAMESPACE

template <>
std::unique_ptr<engine::RecurrentEngine> make_recurrent<double>(const RecurrentConfig& config) {
  return visit_cell(config.cell, config.cell_options, [&](auto cell) -> std::unique_ptr<engine::RecurrentEngine> {
    return std::make_unique<RecurrentLayers<double, decltype(cell)>>(config);
  });
}

LSTMCORE_END_NAMESPACE
