// Heads that label steps, of either element type.
#include "engine/factories.hpp"
#include "engine/labelling_engine.hpp"

LSTMCORE_BEGIN_NAMESPACE

const engine::LabellingEngine& labelling_of(Dtype dtype) {
  static const LabellingOf<float> single;
  static const LabellingOf<double> wide;
  if (dtype == Dtype::float32) return single;
  return wide;
}

LSTMCORE_END_NAMESPACE
