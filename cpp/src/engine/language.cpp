// Parts of language models, of either element type.
#include "engine/factories.hpp"
#include "engine/language_engine.hpp"

LSTMCORE_BEGIN_NAMESPACE

const engine::LanguageEngine& language_of(Dtype dtype) {
  static const LanguageOf<float> single;
  static const LanguageOf<double> wide;
  if (dtype == Dtype::float32) return single;
  return wide;
}

LSTMCORE_END_NAMESPACE
