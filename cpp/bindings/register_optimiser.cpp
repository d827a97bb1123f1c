// Optimiser: solver steps on weights that live in NumPy arrays.
#include "objects.hpp"
#include "register.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

namespace lstmcore::bindings {
namespace {

constexpr const char* kOptimiser = "Optimiser";

std::string shape_of(const TensorInfo& tensor) {
  py::tuple shape(tensor.shape.size());
  for (std::size_t axis = 0; axis < tensor.shape.size(); ++axis) shape[axis] = py::int_(tensor.shape[axis]);
  return repr_of(shape);
}

bool has_shape(const py::array& array, const std::vector<std::int64_t>& shape) {
  return array.ndim() == static_cast<py::ssize_t>(shape.size()) &&
         std::equal(shape.begin(), shape.end(), array.shape(),
                    [](std::int64_t a, py::ssize_t b) { return a == static_cast<std::int64_t>(b); });
}

std::string dtype_text(const py::array& array) { return py::str(array.dtype()).cast<std::string>(); }

/// Weights are written in place: whatever would make that write elsewhere, or to nobody's benefit, is refused.
void check_live(const std::string& where, const py::array& array, Dtype dtype) {
  if (!array.dtype().equal(numpy_dtype(dtype))) {
    throw py::type_error(where + ": expected dtype " + dtype_name(dtype) + " as all parameters, got " +
                         dtype_text(array));
  }
  constexpr auto contiguous =
      static_cast<unsigned>(py::array::c_style) | static_cast<unsigned>(py::detail::npy_api::NPY_ARRAY_ALIGNED_);
  if ((static_cast<unsigned>(array.flags()) & contiguous) != contiguous) {
    throw py::value_error(where +
                          ": expected a C-contiguous, aligned array, since it is updated in place; pass "
                          "np.ascontiguousarray(...) and keep it");
  }
  if (!array.writeable()) {
    throw py::value_error(where + ": expected a writable array, since it is updated in place; got a read-only one");
  }
}

void refuse_overlap(const std::vector<TensorInfo>& tensors, const std::vector<py::array>& arrays) {
  std::vector<std::size_t> order(arrays.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  const auto first = [&](std::size_t i) { return static_cast<const char*>(arrays[i].data()); };
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return first(a) < first(b); });
  for (std::size_t i = 1; i < order.size(); ++i) {
    if (first(order[i]) >= first(order[i - 1]) + arrays[order[i - 1]].nbytes()) continue;
    throw py::value_error("parameters: '" + tensors[order[i - 1]].name + "' and '" + tensors[order[i]].name +
                          "' share memory; expected arrays of their own");
  }
}

std::unique_ptr<OptimiserObject> construct(py::handle config, py::handle parameters) {
  const TrainerConfig options = to_trainer_config(config, "config", true);
  std::vector<TensorInfo> tensors;
  std::vector<py::array> arrays;
  std::int64_t offset = 0;
  Dtype dtype = Dtype::float32;
  for (const auto& item : to_dict(parameters, "parameters")) {
    const std::string name = to_text(item.first, "parameters key");
    const std::string where = entry_name("parameters", name);
    if (!py::isinstance<py::array>(item.second)) {
      throw py::type_error(where + ": expected an ndarray, which is updated in place, got " + type_of(item.second));
    }
    auto array = py::reinterpret_borrow<py::array>(item.second);
    if (arrays.empty()) {
      if (array.dtype().equal(numpy_dtype(Dtype::float64))) {
        dtype = Dtype::float64;
      } else if (!array.dtype().equal(numpy_dtype(Dtype::float32))) {
        throw py::type_error(where + ": expected dtype float32 or float64, got " + dtype_text(array));
      }
    }
    check_live(where, array, dtype);
    if (array.size() == 0) throw py::value_error(where + ": empty, shape " + shape_text(array));
    TensorInfo tensor;
    tensor.name = name;
    tensor.shape.assign(array.shape(), array.shape() + array.ndim());
    tensor.offset = offset;
    offset += tensor.count();
    tensors.push_back(std::move(tensor));
    arrays.push_back(std::move(array));
  }
  if (tensors.empty()) throw py::value_error("parameters: empty; expected at least one array");
  refuse_overlap(tensors, arrays);
  return std::make_unique<OptimiserObject>(Optimiser(options, dtype, std::move(tensors)), std::move(arrays));
}

std::size_t bytes_before(const OptimiserObject& self, std::size_t index) {
  return static_cast<std::size_t>(self.optimiser.tensors()[index].offset) * size_of(self.optimiser.dtype());
}

void resize(const OptimiserObject& self, std::vector<char>& flat) {
  flat.resize(static_cast<std::size_t>(self.optimiser.parameter_count()) * size_of(self.optimiser.dtype()));
}

/// The arrays into the flat copy. Their owner could have changed shape or flags of an array since.
void gather_parameters(OptimiserObject& self) {
  resize(self, self.parameters);
  for (std::size_t i = 0; i < self.arrays.size(); ++i) {
    const TensorInfo& tensor = self.optimiser.tensors()[i];
    const py::array& array = self.arrays[i];
    const std::string where = entry_name("parameters", tensor.name);
    check_live(where, array, self.optimiser.dtype());
    if (!has_shape(array, tensor.shape)) {
      throw py::value_error(where + ": its shape was " + shape_of(tensor) + ", and has changed to " +
                            shape_text(array));
    }
    std::memcpy(self.parameters.data() + bytes_before(self, i), array.data(), static_cast<std::size_t>(array.nbytes()));
  }
}

void scatter_parameters(OptimiserObject& self) {
  for (std::size_t i = 0; i < self.arrays.size(); ++i) {
    std::memcpy(self.arrays[i].mutable_data(), self.parameters.data() + bytes_before(self, i),
                static_cast<std::size_t>(self.arrays[i].nbytes()));
  }
}

/// Strict about dtype: a gradient of another one means that something else went wrong before.
void gather_gradient(OptimiserObject& self, const py::dict& gradients) {
  const Dtype dtype = self.optimiser.dtype();
  std::vector<std::string> known;
  for (const TensorInfo& tensor : self.optimiser.tensors()) known.push_back(tensor.name);
  for (const auto& item : gradients) require_known("gradients", to_text(item.first, "gradients key"), known);
  resize(self, self.gradient);
  for (std::size_t i = 0; i < self.names.size(); ++i) {
    const TensorInfo& tensor = self.optimiser.tensors()[i];
    if (!gradients.contains(self.names[i])) {
      throw py::value_error("gradients: missing key '" + tensor.name + "'; every parameter needs its gradient");
    }
    const py::object value = gradients[self.names[i]];
    const Where where{"gradients", -1, tensor.name.c_str()};
    if (!py::isinstance<py::array>(value)) {
      throw py::type_error(where.text() + ": expected an ndarray, got " + type_of(value));
    }
    const auto given = py::reinterpret_borrow<py::array>(value);
    if (!given.dtype().equal(numpy_dtype(dtype))) {
      throw py::type_error(where.text() + ": expected dtype " + dtype_name(dtype) + " as the parameters, got " +
                           dtype_text(given));
    }
    if (!has_shape(given, tensor.shape)) {
      throw py::value_error(where.text() + ": expected shape " + shape_of(tensor) + ", got " + shape_text(given));
    }
    const py::array array = to_array(value, dtype, where);
    std::memcpy(self.gradient.data() + bytes_before(self, i), array.data(), static_cast<std::size_t>(array.nbytes()));
  }
}

double step(OptimiserObject& self, py::handle gradients) {
  const py::dict given = to_dict(gradients, "gradients");
  const Exclusive use(self.usage, kOptimiser);
  gather_gradient(self, given);
  gather_parameters(self);
  double norm = 0.0;
  {
    const ReleaseGil release(self.optimiser.parameter_count() >= ReleaseGil::kWorthIt);
    norm = self.optimiser.step(self.parameters.data(), self.gradient.data());
  }
  scatter_parameters(self);
  return norm;
}

double penalty(OptimiserObject& self) {
  const Exclusive use(self.usage, kOptimiser);
  gather_parameters(self);
  return self.optimiser.penalty(self.parameters.data());
}

void report(OptimiserObject& self, py::handle monitored) {
  const double value = to_number(monitored, "monitored");
  if (std::isnan(value)) throw py::value_error("monitored: NaN is neither progress nor its absence");
  const Exclusive use(self.usage, kOptimiser);
  self.optimiser.report(value);
}

}  // namespace

void register_optimiser(py::module_& module) {
  py::class_<OptimiserObject> type(module, "Optimiser", py::is_final(),
                                   R"(Optimiser(config, parameters)
--

Solver, clipping and learning-rate schedule for weights that live in NumPy arrays: what Trainer does with a gradient.

Parameters
----------
config : dict
    Those options of Trainer that concern a step: solver, learning_rate, momentum, nesterov, beta_1, beta_2, epsilon, rho,
    alpha, schedule, epochs, schedule_factor, schedule_every, tolerance, clip_norm, clip_value, max_norm, gradient_noise,
    seed, n_threads.
parameters : dict of str to ndarray
    The weights, all float32 or all float64, C-contiguous, writable, none sharing memory. step() changes them in place and
    the optimiser keeps them alive. alpha and max_norm apply to arrays of two or more axes, the first of which counts units,
    but not to those whose name starts with 'P_' (peepholes).

Raises
------
ValueError, TypeError
    An unknown key, a value out of range or of a wrong type, an array that cannot be updated in place.
)");
  type.def(py::init(&construct), py::arg("config"), py::arg("parameters"));
  type.def("step", &step, py::arg("gradients"),
           R"(step(self, gradients)
--

One step: clips, adds noise, updates, bounds rows.

Parameters
----------
gradients : dict of str to ndarray
    One for each parameter, of its shape and dtype, without the penalty, which is added here.

Returns
-------
float
    Norm of the whole gradient before clipping.

Raises
------
RuntimeError
    The gradient is NaN or infinite; weights and running averages are then as before.
ValueError, TypeError
    A gradient is missing or belongs to no parameter, or shape or dtype do not fit; the message names it.
)");
  type.def("penalty", &penalty,
           R"(penalty(self)
--

½·alpha·Σw² over the weights that alpha applies to, which belongs to the loss; 0 for adamw, whose decay is no gradient.
)");
  type.def_property_readonly(
      "learning_rate", [](const OptimiserObject& self) { return self.optimiser.learning_rate(); },
      "Of the epoch that runs now.");
  type.def_property_readonly(
      "steps", [](const OptimiserObject& self) { return self.optimiser.steps(); }, "Steps done.");
  type.def(
      "epoch_finished",
      [](OptimiserObject& self) {
        const Exclusive use(self.usage, kOptimiser);
        self.optimiser.epoch_finished();
      },
      "epoch_finished(self)\n--\n\nMoves the learning-rate schedule on.");
  type.def("report", &report, py::arg("monitored"),
           R"(report(self, monitored)
--

Reports the quantity that the plateau schedule watches (lower is better), once an epoch.
)");
  type.def("__repr__", [](const OptimiserObject& self) {
    return "<Optimiser of " + std::to_string(self.arrays.size()) + " arrays, " +
           std::to_string(self.optimiser.parameter_count()) + " parameters, dtype='" +
           dtype_name(self.optimiser.dtype()) + "'>";
  });
  refuse_pickling(type, "it holds running averages bound to arrays of this process; pickle the arrays");
}

}  // namespace lstmcore::bindings
