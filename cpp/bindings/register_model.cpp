// Model and StreamState.
#include "fast_method.hpp"
#include "objects.hpp"
#include "register.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

namespace lstmcore::bindings {
namespace {

constexpr const char* kModel = "Model";

std::unique_ptr<ModelObject> build(const ModelConfig& config) {
  const auto make = [&config] {
    const ReleaseGil release;
    return Model(config);
  };
  return std::make_unique<ModelObject>(make(), Texts());
}

std::unique_ptr<ModelObject> load(py::handle path) {
  const std::string file = to_path(path, "path");
  const auto read = [&file] {
    const ReleaseGil release;
    return Model::load(file);
  };
  try {
    Model model = read();
    Texts metadata = model.metadata();
    return std::make_unique<ModelObject>(std::move(model), std::move(metadata));
  } catch (const ModelFileError&) {
    require_readable(file, path);
    throw;
  }
}

void save(const ModelObject& self, py::handle path, py::handle metadata) {
  const std::string file = to_path(path, "path");
  const Texts texts = metadata.is_none() ? self.metadata : to_texts(metadata, "metadata");
  const Shared use(self.usage, kModel);
  const auto write = [&] {
    const ReleaseGil release;
    self.model.save(file, texts);
  };
  try {
    write();
  } catch (const ModelFileError&) {
    require_writable(file, path);
    throw;
  }
}

// ---- weights and preprocessing

py::array get_weights(const ModelObject& self) {
  const Shared use(self.usage, kModel);
  py::array weights = new_array(self.dtype(), {self.model.parameter_count()});
  std::memcpy(weights.mutable_data(), self.model.parameters(), static_cast<std::size_t>(weights.nbytes()));
  return weights;
}

void set_weights(ModelObject& self, py::handle weights) {
  const py::array values = to_array(weights, self.dtype(), {"weights"}, {self.model.parameter_count()}, "(P,)");
  const Exclusive use(self.usage, kModel);
  ++self.version;
  std::memcpy(self.model.parameters(), values.data(), static_cast<std::size_t>(values.nbytes()));
  self.model.parameters_changed();
}

py::dict get_parameters(const ModelObject& self) {
  const py::array copy = get_weights(self);
  return tensor_views(self.model.tensors(), self.names, const_cast<void*>(copy.data()), self.dtype(), copy);
}

void set_parameters(ModelObject& self, py::handle parameters) {
  // All are checked before one is written.
  const py::dict given = to_dict(parameters, "parameters");
  std::vector<std::string> tensor_names;
  for (const TensorInfo& tensor : self.model.tensors()) tensor_names.push_back(tensor.name);
  std::vector<std::pair<const TensorInfo*, py::array>> writes;
  for (const auto& item : given) {
    const std::string name = to_text(item.first, "parameters key");
    require_known("parameters", name, tensor_names);
    const auto at = std::find(tensor_names.begin(), tensor_names.end(), name) - tensor_names.begin();
    const TensorInfo* found = &self.model.tensors()[static_cast<std::size_t>(at)];
    const py::object value = py::reinterpret_borrow<py::object>(item.second);
    const Where where{"parameters", -1, found->name.c_str()};
    const py::array array = to_array(value, self.dtype(), where);
    py::tuple shape(found->shape.size());
    for (std::size_t axis = 0; axis < found->shape.size(); ++axis) shape[axis] = py::int_(found->shape[axis]);
    if (!shape.equal(array.attr("shape"))) {
      throw py::value_error(where.text() + ": expected shape " + repr_of(shape) + ", got " + shape_text(array));
    }
    writes.emplace_back(found, array);
  }
  const Exclusive use(self.usage, kModel);
  ++self.version;
  for (const auto& [tensor, array] : writes) {
    auto* first =
        static_cast<char*>(self.model.parameters()) + static_cast<std::size_t>(tensor->offset) * size_of(self.dtype());
    std::memcpy(first, array.data(), static_cast<std::size_t>(array.nbytes()));
  }
  self.model.parameters_changed();
}

py::dict get_preprocessing(const ModelObject& self) {
  const Shared use(self.usage, kModel);
  py::dict result;
  result["input_mean"] = doubles_object(self.model.input_mean());
  result["input_scale"] = doubles_object(self.model.input_scale());
  result["output_mean"] = doubles_object(self.model.output_mean());
  result["output_scale"] = doubles_object(self.model.output_scale());
  return result;
}

void set_preprocessing(ModelObject& self, py::handle input_mean, py::handle input_scale, py::handle output_mean,
                       py::handle output_scale) {
  const std::int64_t features = self.recurrent().input_size;
  const std::int64_t outputs = self.model.config().outputs;
  const std::vector<double> in_mean = to_doubles(input_mean, {"input_mean"}, features);
  const std::vector<double> in_scale = to_doubles(input_scale, {"input_scale"}, features);
  const std::vector<double> out_mean = to_doubles(output_mean, {"output_mean"}, outputs);
  const std::vector<double> out_scale = to_doubles(output_scale, {"output_scale"}, outputs);
  const Exclusive use(self.usage, kModel);
  ++self.version;
  self.model.set_preprocessing(in_mean, in_scale, out_mean, out_scale);
}

// ---- prediction and streaming

/// Outputs at every step, in the form that x came in.
py::object predict_steps(const ModelObject& self, const Batch& batch, int threads) {
  const std::int64_t outputs = self.model.config().outputs;
  const PerStep result = new_per_step(batch, outputs);
  const std::size_t row = static_cast<std::size_t>(outputs) * size_of(self.dtype());
  {
    const Shared use(self.usage, kModel);
    const ReleaseGil release;
    std::size_t rows = 0;
    for (const std::int64_t length : batch.lengths) rows += static_cast<std::size_t>(length);
    std::vector<char> all(rows * row);
    self.model.predict(batch.view(), all.data(), threads);
    const char* from = all.data();
    for (std::size_t n = 0; n < batch.lengths.size(); ++n) {
      const std::size_t bytes = static_cast<std::size_t>(batch.lengths[n]) * row;
      std::memcpy(result.data[n], from, bytes);
      from += bytes;
    }
  }
  return result.value;
}

py::object predict(const ModelObject& self, py::handle x, py::handle lengths, py::handle n_threads) {
  const RecurrentConfig& config = self.recurrent();
  const int threads = to_threads(n_threads, "n_threads");
  const Batch batch = read_batch(x, lengths, config.dtype, {"x", config.input_size});
  if (self.model.config().pooling == Pooling::none) return predict_steps(self, batch, threads);
  py::array out = new_array(config.dtype, {batch.count(), self.model.config().outputs});
  void* data = out.mutable_data();
  {
    const Shared use(self.usage, kModel);
    const ReleaseGil release;
    self.model.predict(batch.view(), data, threads);
  }
  return out;
}

std::unique_ptr<StreamObject> make_state(ModelObject& self) {
  const Shared use(self.usage, kModel);
  return std::make_unique<StreamObject>(self_of(self), self.model.make_state(), self.version);
}

std::unique_ptr<StreamObject> copy_state(StreamObject& self) {
  const auto& owner = self.owner.cast<const ModelObject&>();
  const Shared use(owner.usage, kModel);
  const Shared use_state(self.usage, "StreamState");
  auto copy = std::make_unique<StreamObject>(self.owner, owner.model.make_state(), owner.version);
  owner.model.set_state_values(copy->state, owner.model.state_values(self.state));
  return copy;
}

/// A library state keeps the weights that it was made with. In Python a model has one set of weights, so that a state
/// from before a change moves over to the new ones, with what it remembers.
void bring_up_to_date(const ModelObject& self, StreamObject& stream) {
  if (stream.version == self.version) return;
  StreamState fresh = self.model.make_state();
  self.model.set_state_values(fresh, self.model.state_values(stream.state));
  stream.state = std::move(fresh);
  stream.version = self.version;
}

StreamObject& stream_of(const ModelObject& self, py::handle stream) {
  if (!py::isinstance<StreamObject>(stream)) {
    throw py::type_error("state: expected a StreamState from make_state(), got " + type_of(stream));
  }
  auto& state = stream.cast<StreamObject&>();
  if (!state.owner.is(self_of(const_cast<ModelObject&>(self)))) {
    throw py::value_error("state: made by another Model; use its own make_state()");
  }
  return state;
}

py::array run_step(const ModelObject& self, StreamObject& state, const void* x) {
  py::array out = new_array(self.dtype(), {self.model.config().outputs});
  void* data = out.mutable_data();
  {
    const Shared use(self.usage, kModel);
    const Exclusive use_state(state.usage, "state");
    bring_up_to_date(self, state);
    const ReleaseGil release(self.parameter_count >= ReleaseGil::kWorthIt);
    self.model.step(x, state.state, data);
  }
  return out;
}

py::array step(ModelObject& self, py::handle x, py::handle stream) {
  StreamObject& state = stream_of(self, stream);
  const py::array input = to_array(x, self.dtype(), {"x"}, {self.recurrent().input_size}, "(I,)");
  return run_step(self, state, input.data());
}

/// Whether a step's features are as a stream's are as a rule: nothing has to be converted or refused.
const void* plain_features(const ModelObject& self, PyObject* x, bool finite) {
  const std::int64_t features = self.recurrent().input_size;
  const void* const data = ready_data(x, self.dtype_object, {features});
  if (data == nullptr || !finite) return data;
  const auto all_finite = [features](const auto* values) {
    return std::all_of(values, values + features, [](auto value) { return std::isfinite(value); });
  };
  const bool good = self.dtype() == Dtype::float32 ? all_finite(static_cast<const float*>(data))
                                                   : all_finite(static_cast<const double*>(data));
  return good ? data : nullptr;
}

py::object try_step(ModelObject& self, py::handle x, py::handle stream) {
  StreamObject& state = stream_of(self, stream);
  const void* const data = plain_features(self, x.ptr(), true);
  if (data == nullptr) return py::none();
  return run_step(self, state, data);
}

PyTypeObject* model_type = nullptr;
PyTypeObject* stream_type = nullptr;

template <bool kFinite>
PyObject* quick_step(PyObject* instance, PyObject* const* arguments) {
  const auto* self = plain_object<ModelObject>(instance, model_type);
  auto* state = plain_object<StreamObject>(arguments[1], stream_type);
  if (self == nullptr || state == nullptr || state->owner.ptr() != instance) return nullptr;
  const void* const data = plain_features(*self, arguments[0], kFinite);
  return data == nullptr ? nullptr : run_step(*self, *state, data).release().ptr();
}

// ---- pickling and text

py::dict save_state(const py::object& instance) {
  const auto& self = instance.cast<const ModelObject&>();
  py::dict state;
  state["config"] = model_config_object(self.model.config());
  state["weights"] = get_weights(self);
  state["preprocessing"] = get_preprocessing(self);
  state["metadata"] = texts_object(self.metadata);
  state["attributes"] = attributes_of(instance);
  return state;
}

std::pair<std::unique_ptr<ModelObject>, py::dict> restore_state(const py::dict& state) {
  auto self = build(to_model_config(state_entry(state, "config")));
  const py::dict preprocessing = to_dict(state_entry(state, "preprocessing"), "preprocessing");
  set_preprocessing(*self, state_entry(preprocessing, "input_mean"), state_entry(preprocessing, "input_scale"),
                    state_entry(preprocessing, "output_mean"), state_entry(preprocessing, "output_scale"));
  set_weights(*self, state_entry(state, "weights"));
  self->metadata = to_texts(state_entry(state, "metadata"), "metadata");
  return {std::move(self), to_dict(state_entry(state, "attributes"), "attributes")};
}

std::string describe(const py::object& instance) {
  const auto& self = instance.cast<const ModelObject&>();
  const py::dict config = model_config_object(self.model.config());
  const RecurrentConfig& recurrent = self.recurrent();
  std::string text = py::str(py::type::handle_of(instance).attr("__name__")).cast<std::string>();
  text += "('" + recurrent.cell + "', input_size=" + std::to_string(recurrent.input_size) +
          ", hidden_size=" + std::to_string(recurrent.hidden_size);
  if (recurrent.num_layers != 1) text += ", num_layers=" + std::to_string(recurrent.num_layers);
  if (recurrent.bidirectional) text += ", bidirectional=True";
  if (recurrent.reverse) text += ", reverse=True";
  for (const char* key : {"pooling", "activation", "outputs"}) {
    text += ", " + std::string(key) + "=" + repr_of(config[key]);
  }
  return "<" + text + ", dtype='" + dtype_name(recurrent.dtype) + "')>";
}

void register_stream_state(py::module_& module) {
  py::class_<StreamObject> type(module, "StreamState", py::is_final(),
                                "Streaming state of one stream: made by Model.make_state(), used by Model.step().");
  type.def(
      "reset",
      [](StreamObject& self) {
        const Exclusive use(self.usage, "StreamState");
        self.state.reset();
      },
      "reset(self)\n--\n\nBack to the start of a sequence.");
  type.def("copy", &copy_state, "copy(self)\n--\n\nA state of the same model that continues from here on its own.");
  type.def("__copy__", &copy_state);
  type.def("__repr__", [](const StreamObject& self) {
    return "<StreamState of " + py::repr(self.owner).cast<std::string>() + ">";
  });
  refuse_pickling(type, "it belongs to one Model of this process");
  stream_type = reinterpret_cast<PyTypeObject*>(type.ptr());
}

}  // namespace

void register_model(py::module_& module) {
  register_stream_state(module);

  py::class_<ModelObject> type(module, "Model",
                               R"(Model(config)
--

A network: recurrent layers, pooling over time, dense head; with its preprocessing.

Several threads may predict at once. Training and changes of weights or preprocessing need the model alone: a call that
comes meanwhile raises RuntimeError.

Parameters
----------
config : dict
    recurrent: dict of the arguments of Recurrent, cell options in a dict cell_options;
    pooling: 'last' (default), 'mean', 'max', 'attention', 'hopfield', or 'none' for outputs at every step;
    activation: 'identity' (default) or 'softmax'; outputs: K >= 1 (default 1);
    pooling_size: width of the scores of attention, of keys and values of hopfield (default 0: as wide as the outputs);
    pooling_patterns: learned patterns of hopfield (default 1); pooling_beta: its inverse temperature (default 0:
    1/sqrt(size)); pooling_updates: of its patterns before the read-out, 0 to 100 (default 1; streams need 0);
    head_sizes: units of each hidden layer of the head (default []); head_activation: 'selu' (default), 'relu' or 'tanh';
    head_dropout: in [0, 1), alpha dropout for selu (default 0);
    quantization: 'none' (default), or 'dynamic_int8' for 8-bit W and R, for prediction only: weights that are set are
    rounded, and get_weights() gives what the integers stand for.

Raises
------
ValueError, TypeError
    An unknown key, or a value out of range or of a wrong type; the message names it.
)");
  type.def(py::init([](py::handle config) { return build(to_model_config(config)); }), py::arg("config"));
  type.def_property_readonly(
      "config", [](const ModelObject& self) { return model_config_object(self.model.config()); },
      "The whole configuration, defaults included: a new dict that Model() takes.");
  type.def_property_readonly(
      "gates", [](const ModelObject& self) { return text_tuple(self.model.gates()); },
      "Names of the gates: the order of the row blocks of W, R and b.");
  type.def_property_readonly(
      "parameters", &get_parameters,
      "Copies of the tensors by name: the recurrent ones, those of the pooling (pool_W, pool_b, pool_v or pool_Q, "
      "pool_K, "
      "pool_V), those of the head's hidden layers (head_W_l0, head_b_l0, ...), then head_W (K, ...) and head_b (K,).");
  type.def("get_weights", &get_weights, "get_weights(self)\n--\n\nCopy of all parameters as one vector (P,).");
  type.def("set_weights", &set_weights, py::arg("weights"),
           R"(set_weights(self, weights)
--

Replaces all parameters by a vector (P,), in the order of get_weights().
)");
  type.def("set_parameters", &set_parameters, py::arg("parameters"),
           R"(set_parameters(self, parameters)
--

Replaces the tensors that the dict names, each of exactly its shape; others keep their values. All or none are replaced.
)");
  type.def_property_readonly(
      "preprocessing", &get_preprocessing,
      "dict of float64 copies: input_mean and input_scale (I,), output_mean and output_scale (K,).");
  type.def("set_preprocessing", &set_preprocessing, py::arg("input_mean"), py::arg("input_scale"),
           py::arg("output_mean"), py::arg("output_scale"),
           R"(set_preprocessing(self, input_mean, input_scale, output_mean, output_scale)
--

What happens to inputs, x -> (x - input_mean) * input_scale per feature, and the inverse of what happened to targets,
y -> (y - output_mean) * output_scale, applied to the predictions of identity heads.

Parameters
----------
input_mean, input_scale : (I,) numbers
output_mean, output_scale : (K,) numbers
)");
  type.def("predict", &predict, py::arg("x"), py::arg("lengths") = py::none(), py::arg("n_threads") = py::none(),
           R"(predict(self, x, lengths=None, n_threads=None)
--

Parameters
----------
x : Sequences, or ndarray (N, T, I), or list or tuple of ndarrays (T_i, I)
lengths : (N,) integers, optional
    Steps in use of each sequence; not together with Sequences, which have their own.
n_threads : int, optional
    Upper bound; the configuration's by default.

Returns
-------
ndarray (N, K)
    Probabilities for a softmax head, numbers in original units for an identity head. With pooling 'none' outputs at every
    step: (N, T, K), zero past each length, for an array, and a list of (T_i, K) for everything else.
)");
  type.def("make_state", &make_state,
           R"(make_state(self)
--

The state at the start of a stream, for step().

Raises
------
ValueError
    The model is bidirectional, or its pooling is hopfield with updates.
)");
  model_type = reinterpret_cast<PyTypeObject*>(type.ptr());
  type.def("step", &step, py::arg("x"), py::arg("state"));
  FastMethod<&quick_step<false>, 2>::install(type, "step",
                                             R"(step($self, x, state)
--

One step of one stream.

Parameters
----------
x : ndarray (I,)
state : StreamState
    Of this model; updated in place. After a change of weights it goes on with the new ones.

Returns
-------
ndarray (K,)
    What predict() would return for the sequence so far.
)");
  type.def("try_step", &try_step, py::arg("x"), py::arg("state"));
  FastMethod<&quick_step<true>, 2>::install(type, "try_step",
                                            R"(try_step($self, x, state)
--

step() for callers that look at x only where this returns None and has done nothing: unless x is a C-contiguous array (I,)
of the model's dtype whose numbers are all finite.
)");
  type.def_property_readonly(
      "metadata", [](const ModelObject& self) { return texts_object(self.metadata); },
      "Texts that the model's file carried beside the network: a new dict.");
  type.def("save", &save, py::arg("path"), py::arg("metadata") = py::none(),
           R"(save(self, path, metadata=None)
--

Writes the model file, atomically: the file is either the old one or the whole new one.

Parameters
----------
path : str or os.PathLike
metadata : dict of str, optional
    Texts kept beside the network; by default those in metadata.

Raises
------
OSError
    The folder does not exist or cannot be written to.
ModelFileError
    The model cannot be stored, e.g. for weights that are not finite; or writing failed.
)");
  type.def_static("load", &load, py::arg("path"),
                  R"(load(path)
--

Reads a model file, which is treated as hostile.

Raises
------
ModelFileError
    Not a whole, consistent model.
OSError
    The file cannot be read.
)");
  type.def_static(
      "shapes",
      [](py::handle config) {
        py::dict shapes;
        for (const TensorInfo& tensor : Model::tensors_of(to_model_config(config))) {
          py::tuple extents(tensor.shape.size());
          for (std::size_t axis = 0; axis < tensor.shape.size(); ++axis) extents[axis] = py::int_(tensor.shape[axis]);
          shapes[py::str(tensor.name)] = extents;
        }
        return shapes;
      },
      py::arg("config"),
      R"(shapes(config)
--

Shapes of the parameters by name that a model of this configuration has, without making it.

Raises
------
ValueError, TypeError
    As the constructor.
)");
  type.def("__repr__", &describe);
  type.def(py::pickle(&save_state, &restore_state));
}

}  // namespace lstmcore::bindings
