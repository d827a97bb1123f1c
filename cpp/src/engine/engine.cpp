// The entry of an engine library.
#include "engine/engine.hpp"

#include "base/threads.hpp"
#include "engine/factories.hpp"
#include "model/tensors.hpp"

#include <Eigen/Core>

LSTMCORE_BEGIN_NAMESPACE

namespace {

class EngineOfThisIsa final : public engine::Engine {
 public:
  const char* isa() const noexcept override { return LSTMCORE_ENGINE_NAME; }
  bool openmp() const noexcept override { return LSTMCORE_OPENMP != 0; }
  const char* eigen_version() const noexcept override {
    return LSTMCORE_STRINGIFY(EIGEN_WORLD_VERSION) "." LSTMCORE_STRINGIFY(EIGEN_MAJOR_VERSION) "." LSTMCORE_STRINGIFY(
        EIGEN_MINOR_VERSION);
  }
  const std::vector<CellInfo>& cells() const override { return cell_registry(); }
  std::vector<TensorInfo> tensors(const ModelConfig& config) const override { return network_tensors(config); }
  std::unique_ptr<engine::RecurrentEngine> make_recurrent(const RecurrentConfig& config) const override {
    return config.dtype == Dtype::float32 ? lstmcore::make_recurrent<float>(config)
                                          : lstmcore::make_recurrent<double>(config);
  }
  std::unique_ptr<engine::ConvEngine> make_conv(const ConvConfig& config) const override {
    return config.dtype == Dtype::float32 ? lstmcore::make_conv<float>(config) : lstmcore::make_conv<double>(config);
  }
  std::unique_ptr<engine::ModelEngine> make_model(const ModelConfig& config) const override {
    return config.recurrent.dtype == Dtype::float32 ? lstmcore::make_model<float>(config)
                                                    : lstmcore::make_model<double>(config);
  }
  std::unique_ptr<engine::OptimiserEngine> make_optimiser(const TrainerConfig& config, Dtype dtype,
                                                          const std::vector<TensorInfo>& tensors) const override {
    return dtype == Dtype::float32 ? lstmcore::make_optimiser<float>(config, tensors)
                                   : lstmcore::make_optimiser<double>(config, tensors);
  }
  std::unique_ptr<engine::TreeEngine> make_tree(const TreeConfig& config) const override {
    return config.dtype == Dtype::float32 ? lstmcore::make_tree<float>(config) : lstmcore::make_tree<double>(config);
  }
  const engine::LabellingEngine& labelling(Dtype dtype) const override { return labelling_of(dtype); }
  const engine::LanguageEngine& language(Dtype dtype) const override { return language_of(dtype); }
  std::unique_ptr<engine::EdgeEngine> make_edge(const EdgeProgram& program) const override {
    return lstmcore::make_edge(program);
  }
};

}  // namespace

LSTMCORE_END_NAMESPACE

const lstmcore::engine::Engine* lstmcore_engine_v1() {
  static const lstmcore::EngineOfThisIsa engine;
  return &engine;
}
