#include <lstmcore/optimiser.hpp>

#include "api/checks.hpp"
#include "engine/engine.hpp"

#include <set>
#include <utility>

namespace lstmcore {

namespace {

/// Contiguous from 0 on, and few enough elements to be addressed.
std::int64_t checked_count(const std::vector<TensorInfo>& tensors) {
  if (tensors.empty()) checks::fail("tensors: expected at least one, got none");
  constexpr double most = 1e15;
  std::set<std::string> names;
  std::int64_t at = 0;
  for (const TensorInfo& tensor : tensors) {
    const std::string where = "tensors: '" + tensor.name + "': ";
    if (tensor.name.empty()) checks::fail("tensors: a tensor has no name");
    if (!names.insert(tensor.name).second) checks::fail(where + "named twice");
    double count = 1.0;
    for (const std::int64_t extent : tensor.shape) {
      if (extent < 1) checks::fail(where + "expected extents of at least 1, got " + std::to_string(extent));
      count *= static_cast<double>(extent);
    }
    if (static_cast<double>(at) + count > most) checks::fail(where + "more elements than can be addressed");
    if (tensor.offset != at) {
      checks::fail(where + "expected offset " + std::to_string(at) + ", where the tensor before it ends, got " +
                   std::to_string(tensor.offset));
    }
    at += tensor.count();
  }
  return at;
}

}  // namespace

struct Optimiser::Impl {
  TrainerConfig config;
  Dtype dtype;
  std::vector<TensorInfo> tensors;
  std::int64_t count;
  std::unique_ptr<engine::OptimiserEngine> engine;
};

Optimiser::Optimiser(const TrainerConfig& config, Dtype dtype, std::vector<TensorInfo> tensors) {
  checks::check(config);
  const std::int64_t count = checked_count(tensors);
  impl_ = std::make_unique<Impl>(Impl{config, dtype, std::move(tensors), count, nullptr});
  impl_->engine = engine::current().make_optimiser(config, dtype, impl_->tensors);
}
Optimiser::~Optimiser() = default;
Optimiser::Optimiser(Optimiser&&) noexcept = default;
Optimiser& Optimiser::operator=(Optimiser&&) noexcept = default;

const TrainerConfig& Optimiser::config() const noexcept { return impl_->config; }
Dtype Optimiser::dtype() const noexcept { return impl_->dtype; }
const std::vector<TensorInfo>& Optimiser::tensors() const noexcept { return impl_->tensors; }
std::int64_t Optimiser::parameter_count() const noexcept { return impl_->count; }
std::int64_t Optimiser::steps() const noexcept { return impl_->engine->steps(); }

double Optimiser::step(void* parameters, void* gradient) {
  if (parameters == nullptr) checks::fail("parameters: expected parameter_count() elements, got null");
  if (gradient == nullptr) checks::fail("gradient: expected parameter_count() elements, got null");
  return impl_->engine->step(parameters, gradient);
}

double Optimiser::penalty(const void* parameters) const {
  if (parameters == nullptr) checks::fail("parameters: expected parameter_count() elements, got null");
  return impl_->engine->penalty(parameters);
}

double Optimiser::learning_rate() const noexcept { return impl_->engine->learning_rate(); }
void Optimiser::epoch_finished() noexcept { impl_->engine->epoch_finished(); }
void Optimiser::report(double monitored) noexcept { impl_->engine->report(monitored); }

}  // namespace lstmcore
