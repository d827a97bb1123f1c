#include <lstmcore/edge.hpp>

#include "api/checks.hpp"
#include "engine/engine.hpp"

#include <utility>

namespace lstmcore {

struct EdgeState::Impl {
  std::unique_ptr<engine::EdgeStateEngine> engine;
  const engine::EdgeEngine* model;
};

EdgeState::EdgeState() = default;
EdgeState::~EdgeState() = default;
EdgeState::EdgeState(EdgeState&&) noexcept = default;
EdgeState& EdgeState::operator=(EdgeState&&) noexcept = default;

void EdgeState::reset() noexcept { impl_->engine->reset(); }
EdgeState EdgeState::copy() const {
  EdgeState result;
  result.impl_ = std::make_unique<Impl>(Impl{impl_->engine->copy(), impl_->model});
  return result;
}
std::vector<unsigned char> EdgeState::bytes() const { return impl_->engine->bytes(); }

struct EdgeModel::Impl {
  EdgeProgram program;
  std::unique_ptr<engine::EdgeEngine> engine;
};

EdgeModel::EdgeModel(EdgeProgram program) {
  checks::check(program);
  impl_ = std::make_unique<Impl>(Impl{std::move(program), nullptr});
  impl_->engine = engine::current().make_edge(impl_->program);
}
EdgeModel::~EdgeModel() = default;
EdgeModel::EdgeModel(EdgeModel&&) noexcept = default;
EdgeModel& EdgeModel::operator=(EdgeModel&&) noexcept = default;

const EdgeProgram& EdgeModel::program() const noexcept { return impl_->program; }
std::int64_t EdgeModel::inputs() const noexcept { return static_cast<std::int64_t>(impl_->program.centre.size()); }
std::int64_t EdgeModel::outputs() const noexcept { return impl_->program.dense.back().outputs; }
EdgeMemory EdgeModel::memory() const noexcept { return impl_->engine->memory(); }

void EdgeModel::run(const Sequences& x, void* out, int n_threads) const {
  checks::check(x, inputs());
  checks::check_threads(n_threads);
  if (out == nullptr) checks::fail("out: expected memory for the outputs, got null");
  for (std::int64_t n = 0; n < x.count; ++n) {
    if (x.lengths[n] > (1LL << 31) - 1) checks::fail("x: a sequence of more than 2^31 - 1 steps");
  }
  impl_->engine->run(x, out, n_threads);
}

void EdgeModel::quantise(const float* x, void* activations) const noexcept { impl_->engine->quantise(x, activations); }

EdgeState EdgeModel::make_state() const {
  EdgeState state;
  state.impl_ = std::make_unique<EdgeState::Impl>(EdgeState::Impl{impl_->engine->make_state(), impl_->engine.get()});
  return state;
}

void EdgeModel::step(const float* x, EdgeState& state, void* out) const {
  if (impl_->program.directions != 1) {
    checks::fail("step: the model has two directions and needs whole sequences; use run()");
  }
  if (state.impl_->model != impl_->engine.get()) checks::fail("state: it belongs to another model");
  if (x == nullptr) checks::fail("x: expected inputs() numbers, got null");
  if (out == nullptr) checks::fail("out: expected memory for outputs() numbers, got null");
  state.impl_->engine->step(x, out);
}

}  // namespace lstmcore
