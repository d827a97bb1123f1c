// Tree layers of float32.
#include "engine/factories.hpp"
#include "engine/tree_engine.hpp"

LSTMCORE_BEGIN_NAMESPACE

template <>
std::unique_ptr<engine::TreeEngine> make_tree<float>(const TreeConfig& config) {
  return std::make_unique<TreeLayer<float>>(config);
}

LSTMCORE_END_NAMESPACE
