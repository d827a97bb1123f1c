// Tree layers of float64.
#include "engine/factories.hpp"
#include "engine/tree_engine.hpp"

LSTMCORE_BEGIN_NAMESPACE

template <>
std::unique_ptr<engine::TreeEngine> make_tree<double>(const TreeConfig& config) {
  return std::make_unique<TreeLayer<double>>(config);
}

LSTMCORE_END_NAMESPACE
