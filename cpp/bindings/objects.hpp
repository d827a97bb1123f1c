// The C++ side of the Python objects, and what keeps them whole when several threads use one of them.
#pragma once

#include "arrays.hpp"

#include <lstmcore/optimiser.hpp>
#include <lstmcore/trainer.hpp>

#include <atomic>
#include <map>
#include <memory>
#include <string>

namespace lstmcore::bindings {

/// Readers and one writer of an object, counted while the GIL is released.
///
/// Nobody ever waits: a call that cannot have the object raises RuntimeError. Waiting would deadlock when a signal
/// handler, which Python runs in the middle of a training epoch, uses the model that is being trained.
class Usage {
 public:
  bool try_share() noexcept {
    int users = users_.load(std::memory_order_relaxed);
    while (users >= 0) {
      if (users_.compare_exchange_weak(users, users + 1, std::memory_order_acquire)) return true;
    }
    return false;
  }
  void unshare() noexcept { users_.fetch_sub(1, std::memory_order_release); }
  bool try_own() noexcept {
    int users = 0;
    return users_.compare_exchange_strong(users, -1, std::memory_order_acquire);
  }
  void disown() noexcept { users_.store(0, std::memory_order_release); }

 private:
  std::atomic<int> users_{0};  // −1: one writer
};

[[noreturn]] inline void refuse_use(const char* object) {
  throw std::runtime_error(
      std::string(object) +
      " is busy with another call that does not allow this one at the same time: training, changes of "
      "weights and steps of one stream need their object alone; wait for the other thread");
}

class Shared {
 public:
  Shared(Usage& usage, const char* object) : usage_(usage) {
    if (!usage_.try_share()) refuse_use(object);
  }
  ~Shared() { usage_.unshare(); }
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;

 private:
  Usage& usage_;
};

class Exclusive {
 public:
  Exclusive(Usage& usage, const char* object) : usage_(usage) {
    if (!usage_.try_own()) refuse_use(object);
  }
  ~Exclusive() { usage_.disown(); }
  Exclusive(const Exclusive&) = delete;
  Exclusive& operator=(const Exclusive&) = delete;

 private:
  Usage& usage_;
};

/// Releases the GIL when the work is worth it. Handing the GIL over costs a short step more than the step itself.
class ReleaseGil {
 public:
  explicit ReleaseGil(bool worth_it = true) : state_(worth_it ? PyEval_SaveThread() : nullptr) {}
  ~ReleaseGil() {
    if (state_ != nullptr) PyEval_RestoreThread(state_);
  }
  ReleaseGil(const ReleaseGil&) = delete;
  ReleaseGil& operator=(const ReleaseGil&) = delete;

  /// About 5 µs of multiply-adds on one core.
  static constexpr std::int64_t kWorthIt = 131'072;

 private:
  PyThreadState* state_;
};

/// `Recurrent`.
struct RecurrentObject {
  explicit RecurrentObject(Recurrent&& built)
      : layer(std::move(built)), state_names(interned(layer.states())), names(interned_tensor_names(layer.tensors())) {
    for (std::size_t s = 0; s < state_names.size(); ++s) state_widths.push_back(layer.state_width(s));
    layer.parameters_settled();
  }

  Recurrent layer;
  std::vector<py::str> state_names;
  std::vector<py::str> names;
  std::vector<std::int64_t> state_widths;
  py::dtype dtype = numpy_dtype(layer.config().dtype);
  std::int64_t leases = 0;  ///< of its weights: Python has views of them that can be written
  Tape spare;               ///< of the last training pass whose Python tape is gone: its memory serves the next one
};

/// `Tape`: the recorded pass, and everything it may refer to.
struct TapeObject {
  TapeObject(py::object layer_object, RecurrentObject& recorder, Tape&& recorded, Batch&& input)
      : owner(std::move(layer_object)), layer(recorder), tape(std::move(recorded)), batch(std::move(input)) {}
  ~TapeObject();
  TapeObject(const TapeObject&) = delete;
  TapeObject& operator=(const TapeObject&) = delete;

  py::object owner;  ///< keeps layer alive
  RecurrentObject& layer;
  Tape tape;
  Batch batch;
  Usage usage;
};

/// `Gradients`.
struct GradientsObject {
  py::object x;
  py::dict state;
  py::dict parameters;
};

/// `Model`.
struct ModelObject {
  ModelObject(Model&& built, std::map<std::string, std::string> texts)
      : model(std::move(built)), metadata(std::move(texts)), names(interned_tensor_names(model.tensors())) {}

  const RecurrentConfig& recurrent() const noexcept { return model.config().recurrent; }
  Dtype dtype() const noexcept { return recurrent().dtype; }

  Model model;
  std::map<std::string, std::string> metadata;
  std::vector<py::str> names;
  py::dtype dtype_object = numpy_dtype(dtype());
  std::int64_t parameter_count = model.parameter_count();
  mutable Usage usage;
  std::uint64_t version = 0;  ///< counts changes of weights and preprocessing
};

/// `StreamState`: of one model.
struct StreamObject {
  StreamObject(py::object model, StreamState&& fresh, std::uint64_t made_at)
      : owner(std::move(model)), state(std::move(fresh)), version(made_at) {}

  py::object owner;
  StreamState state;
  std::uint64_t version;  ///< of the model whose weights the state has packed
  Usage usage;
};

/// `Trainer`: shares its model's Usage, so that two trainers of one model exclude each other too.
struct TrainerObject {
  TrainerObject(py::object model_object, ModelObject& target, const TrainerConfig& config)
      : owner(std::move(model_object)), model(target), trainer(target.model, config), loss(config.loss) {}

  py::object owner;  ///< keeps model alive
  ModelObject& model;
  Trainer trainer;
  Loss loss;
};

/// `Optimiser`: of arrays that Python owns.
struct OptimiserObject {
  OptimiserObject(Optimiser&& built, std::vector<py::array> owned)
      : optimiser(std::move(built)), names(interned_tensor_names(optimiser.tensors())), arrays(std::move(owned)) {}

  Optimiser optimiser;
  std::vector<py::str> names;
  std::vector<py::array> arrays;           ///< the weights, in the order of the tensors
  std::vector<char> parameters, gradient;  ///< flat copies, which keep their memory from step to step
  Usage usage;
};

/// Loads an instance after a look at whether __init__ has run: pybind11 itself would hand out raw memory for an object
/// that __new__ alone has made, or a subclass that uses a method before super().__init__().
template <class T>
struct ConstructedCaster : py::detail::type_caster_base<T> {
  bool load(py::handle source, bool convert) {
    if (source && PyObject_TypeCheck(source.ptr(), this->typeinfo->type) != 0 &&
        !reinterpret_cast<py::detail::instance*>(source.ptr())->get_value_and_holder().holder_constructed()) {
      throw py::type_error(std::string(Py_TYPE(source.ptr())->tp_name) + ".__init__() has not run on this object");
    }
    return py::detail::type_caster_base<T>::load(source, convert);
  }
};

}  // namespace lstmcore::bindings

namespace pybind11::detail {
template <>
struct type_caster<lstmcore::bindings::Batch> : lstmcore::bindings::ConstructedCaster<lstmcore::bindings::Batch> {};
template <>
struct type_caster<lstmcore::bindings::RecurrentObject>
    : lstmcore::bindings::ConstructedCaster<lstmcore::bindings::RecurrentObject> {};
template <>
struct type_caster<lstmcore::bindings::TapeObject>
    : lstmcore::bindings::ConstructedCaster<lstmcore::bindings::TapeObject> {};
template <>
struct type_caster<lstmcore::bindings::GradientsObject>
    : lstmcore::bindings::ConstructedCaster<lstmcore::bindings::GradientsObject> {};
template <>
struct type_caster<lstmcore::bindings::ModelObject>
    : lstmcore::bindings::ConstructedCaster<lstmcore::bindings::ModelObject> {};
template <>
struct type_caster<lstmcore::bindings::StreamObject>
    : lstmcore::bindings::ConstructedCaster<lstmcore::bindings::StreamObject> {};
template <>
struct type_caster<lstmcore::bindings::TrainerObject>
    : lstmcore::bindings::ConstructedCaster<lstmcore::bindings::TrainerObject> {};
template <>
struct type_caster<lstmcore::bindings::OptimiserObject>
    : lstmcore::bindings::ConstructedCaster<lstmcore::bindings::OptimiserObject> {};
}  // namespace pybind11::detail

namespace lstmcore::bindings {

/// The Python object of a C++ one that Python holds.
template <class T>
py::object self_of(T& object) {
  return py::cast(&object, py::return_value_policy::reference);
}

/// What views of a layer's weights have as their base. It keeps the layer alive; while there is one, weights may change
/// between any two calls.
class WeightsLease {
 public:
  static py::object make(RecurrentObject& layer) {
    auto lease = std::unique_ptr<WeightsLease>(new WeightsLease(layer));
    py::capsule capsule(lease.get(), [](void* given) { delete static_cast<WeightsLease*>(given); });
    static_cast<void>(lease.release());
    return std::move(capsule);
  }
  ~WeightsLease() {
    if (--layer_.leases == 0) layer_.layer.parameters_settled();
  }
  WeightsLease(const WeightsLease&) = delete;
  WeightsLease& operator=(const WeightsLease&) = delete;

 private:
  explicit WeightsLease(RecurrentObject& layer) : owner_(self_of(layer)), layer_(layer) { ++layer_.leases; }

  py::object owner_;
  RecurrentObject& layer_;
};

/// Refuses pickling with a reason, in place of Python's "cannot pickle".
template <class Class>
void refuse_pickling(Class& type, const char* reason) {
  const std::string message =
      py::str(type.attr("__name__")).template cast<std::string>() + " cannot be pickled: " + reason;
  type.def("__reduce_ex__", [message](py::handle, py::handle) -> py::object { throw py::type_error(message); });
}

/// Pickled attributes of instances of Python subclasses.
inline py::dict attributes_of(py::handle self) { return py::getattr(self, "__dict__", py::dict()); }

/// One entry of a pickled state, which may come from anywhere.
inline py::object state_entry(const py::dict& state, const char* key) {
  if (!state.contains(key)) throw py::value_error(std::string("state: missing key '") + key + "'");
  return state[key];
}

}  // namespace lstmcore::bindings
