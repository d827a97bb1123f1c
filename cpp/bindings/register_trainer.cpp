// Trainer: optimiser steps and epochs, interruptible by Ctrl-C.
#include "interrupts.hpp"
#include "objects.hpp"
#include "register.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

namespace lstmcore::bindings {
namespace {

constexpr const char* kModel = "Model";

// ---- targets

struct TargetArrays {
  py::object y;
  py::object weights;
  Targets view;
};

py::array read_labels(py::handle y, std::int64_t count, std::int64_t outputs) {
  const py::array given = read_numbers(y, {"y"}, "integer class indices");
  const char kind = given.dtype().kind();
  if (kind != 'i' && kind != 'u' && kind != 'b') {
    throw py::type_error("y: expected integer class indices for the loss cross_entropy, got dtype " +
                         py::str(given.dtype()).cast<std::string>());
  }
  if (given.ndim() != 1 || given.shape(0) != count) {
    throw py::value_error("y: expected one class index for each sequence, shape " + shape_text({count}) + ", got " +
                          shape_text(given));
  }
  const py::array_t<std::int64_t, py::array::c_style | py::array::forcecast> wide(given);
  py::array_t<std::int32_t> labels(count);
  for (py::ssize_t n = 0; n < count; ++n) {
    const std::int64_t label = wide.data()[n];
    if (label < 0 || label >= outputs) {
      throw py::value_error("y[" + std::to_string(n) + "]: class index " + std::to_string(label) + " is outside 0 … " +
                            std::to_string(outputs - 1) + ": the model has " + std::to_string(outputs) + " outputs");
    }
    labels.mutable_data()[n] = static_cast<std::int32_t>(label);
  }
  return labels;
}

void check_finite(const py::array& array, const char* name) {
  const auto* first = static_cast<const double*>(array.data());
  const auto* last = first + array.size();
  const auto* found = std::find_if(first, last, [](double value) { return !std::isfinite(value); });
  if (found == last) return;
  const std::string value = std::isnan(*found) ? "NaN" : "inf";
  throw py::value_error(std::string(name) + ": " + value + " in row " +
                        std::to_string((found - first) / std::max<py::ssize_t>(array.size() / array.shape(0), 1)) +
                        "; every value must be finite");
}

py::array read_weights(py::handle weights, std::int64_t count) {
  py::array array = to_array(weights, Dtype::float64, {"weights"}, {count}, "(N,)");
  check_finite(array, "weights");
  const auto* first = static_cast<const double*>(array.data());
  double sum = 0.0;
  for (std::int64_t n = 0; n < count; ++n) {
    if (first[n] < 0.0) {
      throw py::value_error("weights[" + std::to_string(n) + "]: expected 0 or more, got " +
                            repr_of(py::float_(first[n])));
    }
    sum += first[n];
  }
  if (sum == 0.0) throw py::value_error("weights: all are zero; at least one sequence must count");
  return array;
}

const Batch& read_sequences(const TrainerObject& self, py::handle x) {
  if (!py::isinstance<Batch>(x)) throw py::type_error("x: expected a Sequences, got " + type_of(x));
  const auto& batch = x.cast<const Batch&>();
  const RecurrentConfig& config = self.model.recurrent();
  if (batch.dtype != config.dtype) {
    throw py::type_error(std::string("x: Sequences of ") + dtype_name(batch.dtype) + ", but the model is " +
                         dtype_name(config.dtype) + "; build it with dtype='" + dtype_name(config.dtype) + "'");
  }
  if (batch.features != config.input_size) {
    throw py::value_error("x: expected " + std::to_string(config.input_size) + " features, got " +
                          std::to_string(batch.features) + ": input_size is " + std::to_string(config.input_size));
  }
  return batch;
}

TargetArrays read_targets(const TrainerObject& self, py::handle y, py::handle weights, std::int64_t count) {
  TargetArrays result;
  const std::int64_t outputs = self.model.model.config().outputs;
  if (self.loss == Loss::cross_entropy) {
    const py::array labels = read_labels(y, count, outputs);
    result.view.labels = static_cast<const std::int32_t*>(labels.data());
    result.y = labels;
  } else {
    const py::array values = to_array(y, Dtype::float64, {"y"}, {count, outputs}, "(N, K)");
    check_finite(values, "y");
    result.view.values = static_cast<const double*>(values.data());
    result.y = values;
  }
  if (!weights.is_none()) {
    const py::array values = read_weights(weights, count);
    result.view.weights = static_cast<const double*>(values.data());
    result.weights = values;
  }
  return result;
}

// ---- work that Ctrl-C stops

template <class Work>
auto interruptible(TrainerObject& self, const Work& work) {
  Interrupts interrupts;
  const Exclusive use(self.model.usage, kModel);
  ++self.model.version;
  const auto run = [&] {
    const ReleaseGil release;
    return work(interrupts.callback());
  };
  try {
    auto result = run();
    interrupts.rethrow();
    return result;
  } catch (const Interrupted&) {
    interrupts.rethrow();
    throw;
  }
}

std::unique_ptr<TrainerObject> construct(py::handle model, py::handle options) {
  if (!py::isinstance<ModelObject>(model)) throw py::type_error("model: expected a Model, got " + type_of(model));
  auto& target = model.cast<ModelObject&>();
  const TrainerConfig config = to_trainer_config(options, "options");
  const Exclusive use(target.usage, kModel);
  return std::make_unique<TrainerObject>(py::reinterpret_borrow<py::object>(model), target, config);
}

py::dict run_epoch(TrainerObject& self, py::handle x, py::handle y, py::handle weights) {
  const Batch& batch = read_sequences(self, x);
  const TargetArrays targets = read_targets(self, y, weights, batch.count());
  const EpochResult epoch = interruptible(
      self, [&](const Cancel& cancel) { return self.trainer.run_epoch(batch.view(), targets.view, cancel); });
  py::dict result;
  result["loss"] = epoch.loss;
  result["learning_rate"] = epoch.learning_rate;
  result["sequences"] = epoch.sequences;
  result["interrupted"] = epoch.interrupted;
  return result;
}

double step(TrainerObject& self, py::handle x, py::handle y, py::handle weights) {
  const Batch& batch = read_sequences(self, x);
  const TargetArrays targets = read_targets(self, y, weights, batch.count());
  return interruptible(self,
                       [&](const Cancel& cancel) { return self.trainer.step(batch.view(), targets.view, cancel); });
}

double evaluate(TrainerObject& self, py::handle x, py::handle y, py::handle weights) {
  const Batch& batch = read_sequences(self, x);
  const TargetArrays targets = read_targets(self, y, weights, batch.count());
  // Alone, although nothing of the model changes: the trainer's working memory is used.
  const Exclusive use(self.model.usage, kModel);
  const ReleaseGil release;
  return self.trainer.evaluate(batch.view(), targets.view);
}

py::tuple gradient(TrainerObject& self, py::handle x, py::handle y, py::handle weights) {
  const Batch& batch = read_sequences(self, x);
  const TargetArrays targets = read_targets(self, y, weights, batch.count());
  const Model& model = self.model.model;
  py::array flat = new_array(self.model.dtype(), {model.parameter_count()});
  void* data = flat.mutable_data();
  const double loss = interruptible(
      self, [&](const Cancel& cancel) { return self.trainer.gradient(batch.view(), targets.view, data, cancel); });
  return py::make_tuple(loss, tensor_views(model.tensors(), self.model.names, data, self.model.dtype(), flat));
}

void report(TrainerObject& self, py::handle monitored) {
  const double value = to_number(monitored, "monitored");
  if (std::isnan(value)) throw py::value_error("monitored: NaN is neither progress nor its absence");
  const Exclusive use(self.model.usage, kModel);
  self.trainer.report(value);
}

std::string shape_of(const TensorInfo& tensor) {
  py::tuple shape(tensor.shape.size());
  for (std::size_t axis = 0; axis < tensor.shape.size(); ++axis) shape[axis] = py::int_(tensor.shape[axis]);
  return repr_of(shape);
}

/// masks: name of a tensor → array of its shape; false (0) fixes a weight at zero. None: all are free.
void set_mask(TrainerObject& self, py::handle masks) {
  std::vector<std::uint8_t> flat;
  const Model& model = self.model.model;
  if (!masks.is_none()) {
    flat.assign(static_cast<std::size_t>(model.parameter_count()), 1);
    for (const auto& item : to_dict(masks, "masks")) {
      const std::string name = to_text(item.first, "masks key");
      const auto& tensors = model.tensors();
      const auto found =
          std::find_if(tensors.begin(), tensors.end(), [&](const TensorInfo& tensor) { return tensor.name == name; });
      if (found == tensors.end()) throw py::value_error("masks: the model has no tensor '" + name + "'");
      const std::string where = entry_name("masks", name);
      if (!py::isinstance<py::array_t<bool>>(item.second)) {
        throw py::type_error(where + ": expected an ndarray of bool, got " + type_of(item.second));
      }
      const auto array = py::array_t<bool, py::array::c_style>::ensure(item.second);
      if (!array) throw py::error_already_set();
      const bool fits = array.ndim() == static_cast<py::ssize_t>(found->shape.size()) &&
                        std::equal(found->shape.begin(), found->shape.end(), array.shape(),
                                   [](std::int64_t a, py::ssize_t b) { return a == static_cast<std::int64_t>(b); });
      if (!fits) {
        throw py::value_error(where + ": expected shape " + shape_of(*found) + ", got " + shape_text(array));
      }
      std::copy_n(array.data(), array.size(), flat.begin() + found->offset);
    }
  }
  const Exclusive use(self.model.usage, kModel);
  ++self.model.version;
  const ReleaseGil release;
  self.trainer.set_mask(std::move(flat));
}

}  // namespace

void register_trainer(py::module_& module) {
  py::class_<TrainerObject> type(module, "Trainer", py::is_final(),
                                 R"(Trainer(model, options)
--

Loss, optimiser and schedule for one model, which it changes and keeps alive.

Every method releases the GIL; in the main thread Ctrl-C stops within about 20 ms and one mini-batch, with the weights as
after the last whole mini-batch, and raises KeyboardInterrupt. While a method runs, other calls on the model raise
RuntimeError. x must be finite: Sequences are not searched for NaN.

Parameters
----------
model : Model
options : dict
    loss: 'cross_entropy' (default; needs a softmax head), 'squared', 'absolute', 'huber' (with huber_delta, 1.0),
    'quantile' (with quantiles, a list of Q levels in (0, 1); output k·Q + q is level q of number k, and y has every number
    Q times) or 'gaussian' (outputs 2k and 2k + 1 are mean and raw deviation r, σ = 10⁻³ + log(1 + exp r), of number k, and
    y has every number twice);
    solver: 'adam' (default; Kingma & Ba 2015), 'adamw' (Loshchilov & Hutter 2019), 'rmsprop' (Tieleman & Hinton 2012),
    'sgd'; learning_rate 1e-3; momentum 0.9 and nesterov False (sgd); beta_1 0.9, beta_2 0.999 and epsilon 1e-8 (adam,
    adamw; epsilon also rmsprop); rho 0.99 (rmsprop); alpha 0.0, L2 penalty on weights, not biases (adamw: decoupled decay);
    schedule: 'constant' (default), 'step', 'cosine' or 'plateau', with epochs 200 (cosine), schedule_factor 0.5 and
    schedule_every 10 (step, plateau), tolerance 1e-4 (plateau); clip_norm and clip_value, 0.0 for off (Pascanu et al. 2013);
    label_smoothing 0.0 (cross_entropy; Szegedy et al. 2016); max_norm 0.0, bound for the norm of each row of a weight matrix
    (Srivastava et al. 2014); gradient_noise 0.0 (Neelakantan et al. 2015); bptt_steps 0, gradients flow back over windows
    of so many steps, 0 for whole sequences (Williams & Peng 1990); checkpoint_steps 0, sequences are recorded in windows of
    so many steps, which bounds memory for one more forward pass (Chen et al. 2016), 0 for off;
    batch_size 32; shuffle True; seed 0; n_threads None.

Raises
------
ValueError, TypeError
    An unknown key, or a value out of range or of a wrong type; the message names it.
)");
  type.def(py::init(&construct), py::arg("model"), py::arg("options"));
  type.def("run_epoch", &run_epoch, py::arg("x"), py::arg("y"), py::arg("weights") = py::none(),
           R"(run_epoch(self, x, y, weights=None)
--

One pass over the data in mini-batches.

Parameters
----------
x : Sequences
y : (N,) integers 0 … K-1 for cross_entropy, else (N, K) numbers in original units
weights : (N,) numbers >= 0, optional
    Weight of each sequence; ones by default.

Returns
-------
dict
    loss (weighted mean over the sequences, penalty included), learning_rate (used), sequences (seen), interrupted
    (False: an interrupted epoch raises instead).

Raises
------
KeyboardInterrupt
    On Ctrl-C; the weights are those after the last whole mini-batch.
ValueError, TypeError
    Targets or weights that do not fit; the message names them.
RuntimeError
    The model is in use by another thread.
)");
  type.def("step", &step, py::arg("x"), py::arg("y"), py::arg("weights") = py::none(),
           R"(step(self, x, y, weights=None)
--

One optimiser step on exactly these sequences; arguments as in run_epoch(). Returns their mean loss before the step.
)");
  type.def("evaluate", &evaluate, py::arg("x"), py::arg("y"), py::arg("weights") = py::none(),
           R"(evaluate(self, x, y, weights=None)
--

Mean loss without dropout and without the penalty; nothing is updated. Arguments as in run_epoch().
)");
  type.def("gradient", &gradient, py::arg("x"), py::arg("y"), py::arg("weights") = py::none(),
           R"(gradient(self, x, y, weights=None)
--

Loss and gradient of one batch, without an update; arguments as in run_epoch().

Returns
-------
loss : float
gradient : dict
    name -> ndarray, as Model.parameters: views of one flat array (their .base).
)");
  type.def("report", &report, py::arg("monitored"),
           R"(report(self, monitored)
--

Reports the quantity that the plateau schedule watches (lower is better), once an epoch.
)");
  type.def("set_mask", &set_mask, py::arg("masks"),
           R"(set_mask(self, masks)
--

For pruning: fixes weights at zero, now and after every further step.

Parameters
----------
masks : dict of str to ndarray of bool, or None
    By name of the tensor, in its shape; False: the weight is zero. Tensors that are not named are free, as all are with
    None.

Raises
------
ValueError, TypeError
    A name that the model does not have, or an array of another shape or dtype.
)");
  type.def("__repr__",
           [](const TrainerObject& self) { return "<Trainer of " + py::repr(self.owner).cast<std::string>() + ">"; });
  refuse_pickling(type, "it holds optimiser state bound to its model; pickle the Model");
}

}  // namespace lstmcore::bindings
