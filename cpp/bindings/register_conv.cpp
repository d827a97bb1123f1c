// ConvRecurrent and ConvTape.
#include "objects.hpp"
#include "register.hpp"
#include "states.hpp"

#include <lstmcore/conv.hpp>

#include <cstring>
#include <utility>

namespace lstmcore::bindings {

/// `ConvRecurrent`.
struct ConvObject {
  explicit ConvObject(ConvRecurrent&& built)
      : layer(std::move(built)), state_names(interned(layer.states())), names(interned_tensor_names(layer.tensors())) {}

  ConvRecurrent layer;
  std::vector<py::str> state_names;
  std::vector<py::str> names;
  Tape spare;  ///< of the last training pass whose Python tape is gone: its memory serves the next one
};

/// `ConvTape`: the recorded pass, and everything it may refer to.
struct ConvTapeObject {
  ConvTapeObject(py::object layer_object, ConvObject& recorder, Tape&& recorded, Batch&& input)
      : owner(std::move(layer_object)), layer(recorder), tape(std::move(recorded)), batch(std::move(input)) {}
  ~ConvTapeObject() {
    if (tape) layer.spare = std::move(tape);
  }
  ConvTapeObject(const ConvTapeObject&) = delete;
  ConvTapeObject& operator=(const ConvTapeObject&) = delete;

  py::object owner;  ///< keeps layer alive
  ConvObject& layer;
  Tape tape;
  Batch batch;
  Usage usage;
};

}  // namespace lstmcore::bindings

namespace pybind11::detail {
template <>
struct type_caster<lstmcore::bindings::ConvObject>
    : lstmcore::bindings::ConstructedCaster<lstmcore::bindings::ConvObject> {};
template <>
struct type_caster<lstmcore::bindings::ConvTapeObject>
    : lstmcore::bindings::ConstructedCaster<lstmcore::bindings::ConvTapeObject> {};
}  // namespace pybind11::detail

namespace lstmcore::bindings {
namespace {

bool is_list(py::handle value) { return PyList_Check(value.ptr()) || PyTuple_Check(value.ptr()); }

py::tuple own_tuple(py::handle items) {
  // A tuple of its own: converting an element may run Python code, which could change a list.
  auto result = py::reinterpret_steal<py::tuple>(PySequence_Tuple(items.ptr()));
  if (!result) throw py::error_already_set();
  return result;
}

/// The last three axes are (channels, Y, X); `leading` names those before, e.g. "N, T". Returned in dtype, with those
/// three as one.
py::array flat_images(py::handle value, const ConvConfig& config, const Where& where, const std::string& leading,
                      py::ssize_t axes, std::int64_t channels) {
  const py::array given = read_numbers(value, where);
  const std::string expected = "(" + leading + ", " + std::to_string(channels) + ", " + std::to_string(config.height) +
                               ", " + std::to_string(config.width) + ")";
  const bool fits = given.ndim() == axes && given.shape(axes - 3) == channels &&
                    given.shape(axes - 2) == config.height && given.shape(axes - 1) == config.width;
  if (!fits) throw py::value_error(where.text() + ": expected " + expected + ", got " + shape_text(given));
  if (given.size() == 0) {
    throw py::value_error(where.text() + ": empty, shape " + shape_text(given) + "; every axis needs 1 or more");
  }
  py::array array = to_array(given, config.dtype, where);
  std::vector<py::ssize_t> shape(array.shape(), array.shape() + axes - 3);
  shape.push_back(static_cast<py::ssize_t>(channels * config.height * config.width));
  return array.reshape(shape);
}

Batch read_images(const ConvRecurrent& layer, py::handle x, py::handle lengths) {
  const ConvConfig& config = layer.config();
  const BatchRules rules{"x", layer.input_size(), "channels*height*width"};
  if (!is_list(x)) {
    return read_batch(flat_images(x, config, {"x"}, "N, T", 5, config.channels), lengths, config.dtype, rules);
  }
  const py::tuple items = own_tuple(x);
  py::list flat;
  for (std::size_t n = 0; n < items.size(); ++n) {
    flat.append(flat_images(items[n], config, {"x", static_cast<std::int64_t>(n)}, "T", 4, config.channels));
  }
  return read_batch(flat, lengths, config.dtype, rules);
}

/// (N, T, channels*Y*X) → (N, T, channels, Y, X), or each of a list; a view.
py::object as_images(const py::object& value, const ConvConfig& config, std::int64_t channels) {
  const auto reshaped = [&](const py::array& array) {
    std::vector<py::ssize_t> shape(array.shape(), array.shape() + array.ndim() - 1);
    for (const std::int64_t axis : {channels, config.height, config.width}) {
      shape.push_back(static_cast<py::ssize_t>(axis));
    }
    return py::array(array).reshape(shape);
  };
  if (!is_list(value)) return reshaped(py::reinterpret_borrow<py::array>(value));
  py::list result;
  for (const py::handle item : value) result.append(reshaped(py::reinterpret_borrow<py::array>(item)));
  return std::move(result);
}

PerStep read_output_gradient(const ConvRecurrent& layer, py::handle dy, const Batch& batch) {
  const ConvConfig& config = layer.config();
  const std::int64_t width = layer.output_size();
  if (!batch.listed || !is_list(dy)) {
    // A list where an array is expected, or the other way round, is read_per_step()'s to refuse.
    if (batch.listed) return read_per_step(dy, batch, width, "dy");
    return read_per_step(flat_images(dy, config, {"dy"}, "N, T", 5, config.hidden_channels), batch, width, "dy");
  }
  const py::tuple items = own_tuple(dy);
  py::list flat;
  for (std::size_t n = 0; n < items.size(); ++n) {
    flat.append(flat_images(items[n], config, {"dy", static_cast<std::int64_t>(n)}, "T", 4, config.hidden_channels));
  }
  return read_per_step(flat, batch, width, "dy");
}

// ---- states: dictionaries of arrays [L, N, H, Y, X], one per state of the cell

GivenStates read_states(const ConvObject& self, py::handle state, std::int64_t count, const char* argument) {
  const ConvConfig& config = self.layer.config();
  const std::vector<std::string>& names = self.layer.states();
  return bindings::read_states(self.state_names, names, state, argument, [&](std::size_t s, py::handle value) {
    return to_array(value, config.dtype, {argument, -1, names[s].c_str()},
                    {config.num_layers, count, config.hidden_channels, config.height, config.width}, "(L, N, H, Y, X)");
  });
}

NewStates new_states(const ConvObject& self, std::int64_t count) {
  const ConvConfig& config = self.layer.config();
  return bindings::new_states(self.state_names, [&](std::size_t) {
    return new_array(config.dtype, {config.num_layers, count, config.hidden_channels, config.height, config.width});
  });
}

/// New states that start from given ones, or from zeros.
NewStates start_states(const ConvObject& self, py::handle state, std::int64_t count) {
  const GivenStates given = read_states(self, state, count, "state");
  NewStates result = new_states(self, count);
  if (given.data.empty()) {
    result.clear();
  } else {
    result.copy(given);
  }
  return result;
}

// ---- the three passes

py::tuple forward(ConvObject& self, py::handle x, py::handle state, py::handle lengths, py::handle training) {
  const ConvConfig& config = self.layer.config();
  const bool record = to_bool(training, "training");
  Batch batch = read_images(self.layer, x, lengths);
  const GivenStates initial = read_states(self, state, batch.count(), "state");
  const PerStep y = new_per_step(batch, self.layer.output_size());
  const NewStates final_state = new_states(self, batch.count());
  Tape tape;
  if (record) tape = std::move(self.spare);
  {
    const ReleaseGil release;
    self.layer.forward(batch.view(), initial.pointers(), y.data.data(), final_state.data.data(),
                       record ? &tape : nullptr);
  }
  const py::object images = as_images(y.value, config, config.hidden_channels);
  if (!record) return py::make_tuple(images, final_state.value);
  auto recorded = std::make_unique<ConvTapeObject>(self_of(self), self, std::move(tape), std::move(batch));
  return py::make_tuple(images, final_state.value, py::cast(std::move(recorded)));
}

std::unique_ptr<GradientsObject> backward(ConvObject& self, py::handle recorded, py::handle dy, py::handle dstate,
                                          py::handle input_gradient) {
  const bool wants_x = to_bool(input_gradient, "input_gradient");
  if (!py::isinstance<ConvTapeObject>(recorded)) {
    throw py::type_error("tape: expected the ConvTape of a forward(..., training=True), got " + type_of(recorded));
  }
  auto& tape = recorded.cast<ConvTapeObject&>();
  if (!tape.owner.is(self_of(self))) throw py::value_error("tape: recorded by another ConvRecurrent");
  if (!tape.tape) {
    throw py::value_error("tape: used up by an earlier backward(); run forward(..., training=True) again");
  }
  const ConvConfig& config = self.layer.config();
  const Batch& batch = tape.batch;
  const std::int64_t count = batch.count();

  PerStep d_outputs;
  std::vector<const void*> d_rows;
  if (!dy.is_none()) {
    d_outputs = read_output_gradient(self.layer, dy, batch);
    d_rows.assign(d_outputs.data.begin(), d_outputs.data.end());
  }
  const GivenStates d_final = read_states(self, dstate, count, "dstate");
  PerStep dx;
  if (wants_x) dx = new_per_step(batch, batch.features);
  const NewStates d_initial = new_states(self, count);
  py::array gradient = new_array(batch.dtype, {self.layer.parameter_count()});
  void* gradient_data = gradient.mutable_data();
  {
    const Exclusive use(tape.usage, "tape");
    const ReleaseGil release;
    self.layer.backward(tape.tape, dy.is_none() ? nullptr : d_rows.data(), d_final.pointers(),
                        wants_x ? dx.data.data() : nullptr, d_initial.data.data(), gradient_data);
  }
  // Back to the layer at once: in a training loop the Python object lives until the next forward() has run.
  self.spare = std::move(tape.tape);
  auto result = std::make_unique<GradientsObject>();
  result->x = wants_x ? as_images(dx.value, config, config.channels) : py::object(py::none());
  result->state = d_initial.value;
  result->parameters = tensor_views(self.layer.tensors(), self.names, gradient_data, batch.dtype, gradient);
  return result;
}

py::tuple step(const ConvObject& self, py::handle x, py::handle state) {
  const ConvConfig& config = self.layer.config();
  const py::array input = flat_images(x, config, {"x"}, "N", 4, config.channels);
  const std::int64_t count = input.shape(0);
  const NewStates next = start_states(self, state, count);
  py::array y = new_array(config.dtype, {count, config.hidden_channels, config.height, config.width});
  void* output = y.mutable_data();
  {
    const ReleaseGil release;
    self.layer.step(input.data(), count, next.data.data(), output);
  }
  return py::make_tuple(std::move(y), next.value);
}

// ---- construction, pickling, text

constexpr const char* kKeys[] = {"cell",     "channels",   "hidden_channels", "height", "width",    "kernel_size",
                                 "dilation", "num_layers", "dtype",           "seed",   "n_threads"};

std::unique_ptr<ConvObject> build(const py::dict& fields) {
  const auto field = [&](const char* key) -> py::object {
    return fields.contains(key) ? py::object(fields[key]) : py::object(py::none());
  };
  const auto size = [&](const char* key) {
    const py::object value = field(key);
    if (value.is_none()) throw py::type_error(std::string("ConvRecurrent: missing required argument '") + key + "'");
    return to_integer(value, key, 1);
  };
  ConvConfig config;
  config.cell = to_text(field("cell"), "cell");
  config.channels = size("channels");
  config.hidden_channels = size("hidden_channels");
  config.height = size("height");
  config.width = size("width");
  config.kernel_size = size("kernel_size");
  config.dilation = size("dilation");
  config.num_layers = size("num_layers");
  config.dtype = to_dtype(field("dtype"), "dtype");
  config.seed = to_seed(field("seed"), "seed");
  config.n_threads = to_threads(field("n_threads"), "n_threads");
  const auto make = [&config] {
    const ReleaseGil release;  // orthogonal initial weights take a while in large layers
    return ConvRecurrent(config);
  };
  return std::make_unique<ConvObject>(make());
}

std::unique_ptr<ConvObject> construct(py::handle cell, py::handle channels, py::handle hidden_channels,
                                      py::handle height, py::handle width, py::handle kernel_size, py::handle dilation,
                                      py::handle num_layers, py::handle dtype, py::handle seed, py::handle n_threads) {
  const py::handle values[] = {cell,     channels,   hidden_channels, height, width,    kernel_size,
                               dilation, num_layers, dtype,           seed,   n_threads};
  py::dict fields;
  for (std::size_t i = 0; i < std::size(kKeys); ++i) fields[kKeys[i]] = values[i];
  return build(fields);
}

py::dict config_object(const ConvConfig& config) {
  py::dict result;
  result["cell"] = config.cell;
  result["channels"] = config.channels;
  result["hidden_channels"] = config.hidden_channels;
  result["height"] = config.height;
  result["width"] = config.width;
  result["kernel_size"] = config.kernel_size;
  result["dilation"] = config.dilation;
  result["num_layers"] = config.num_layers;
  result["dtype"] = dtype_name(config.dtype);
  result["seed"] = config.seed;
  result["n_threads"] = threads_object(config.n_threads);
  return result;
}

py::dict save_state(const py::object& instance) {
  auto& self = instance.cast<ConvObject&>();
  const ConvRecurrent& layer = self.layer;
  py::array weights = new_array(layer.config().dtype, {layer.parameter_count()});
  std::memcpy(weights.mutable_data(), layer.parameters(), static_cast<std::size_t>(weights.nbytes()));
  py::dict state;
  py::dict config = config_object(layer.config());
  config["n_threads"] = threads_object(layer.n_threads());
  state["config"] = config;
  state["weights"] = weights;
  state["attributes"] = attributes_of(instance);
  return state;
}

std::pair<std::unique_ptr<ConvObject>, py::dict> restore_state(const py::dict& state) {
  const py::dict fields = to_dict(state_entry(state, "config"), "config");
  for (const auto& item : fields) {
    require_known("config", to_text(item.first, "config key"), {std::begin(kKeys), std::end(kKeys)});
  }
  auto self = build(fields);
  ConvRecurrent& layer = self->layer;
  const py::array weights =
      to_array(state_entry(state, "weights"), layer.config().dtype, {"weights"}, {layer.parameter_count()}, "(P,)");
  std::memcpy(layer.parameters(), weights.data(), static_cast<std::size_t>(weights.nbytes()));
  return {std::move(self), to_dict(state_entry(state, "attributes"), "attributes")};
}

std::string describe(const py::object& instance) {
  const ConvConfig& config = instance.cast<ConvObject&>().layer.config();
  std::string text = py::str(py::type::handle_of(instance).attr("__name__")).cast<std::string>();
  const auto number = [&](const char* name, std::int64_t value) {
    text += std::string(", ") + name + "=" + std::to_string(value);
  };
  text += "('" + config.cell + "'";
  number("channels", config.channels);
  number("hidden_channels", config.hidden_channels);
  number("height", config.height);
  number("width", config.width);
  number("kernel_size", config.kernel_size);
  if (config.dilation != 1) number("dilation", config.dilation);
  if (config.num_layers != 1) number("num_layers", config.num_layers);
  return text + ", dtype='" + dtype_name(config.dtype) + "')";
}

}  // namespace

void register_conv(py::module_& module) {
  py::class_<ConvTapeObject> tape(
      module, "ConvTape", py::is_final(),
      "What ConvRecurrent.forward(..., training=True) saves for backward(). It keeps the layer and the\n"
      "input alive; the weights must not change before backward().");
  tape.def_property_readonly(
      "lengths",
      [](const ConvTapeObject& self) {
        const std::vector<std::int64_t>& lengths = self.batch.lengths;
        return py::array_t<std::int64_t>(static_cast<py::ssize_t>(lengths.size()), lengths.data());
      },
      "Steps of each recorded sequence: (N,) int64, a copy.");
  tape.def("__repr__", [](const ConvTapeObject& self) {
    return "<ConvTape of " + std::to_string(self.batch.count()) + " sequences by " +
           py::repr(self.owner).cast<std::string>() + ">";
  });
  refuse_pickling(tape, "it belongs to one ConvRecurrent of this process");

  py::class_<ConvObject> type(
      module, "ConvRecurrent",
      R"(ConvRecurrent(cell='lstm', channels, hidden_channels, height, width, kernel_size=3, dilation=1, num_layers=1, dtype='float32', seed=0, n_threads=None)

A stack of convolutional recurrent layers (ConvLSTM, Shi et al. 2015): forward, backpropagation through time, single steps.

Shape letters: T time steps, N sequences, C channels, Y rows and X columns of an image, H hidden channels, L layers.
All methods may run at once from several threads; they release the GIL.

Parameters
----------
cell : {'lstm', 'peephole', 'gru'}
    Equations of that cell with convolutions in place of W·x and R·h: stride 1, 'same' padding with zeros. Peepholes are
    maps, one weight for each hidden channel and pixel; gru is the reset-after form.
channels, hidden_channels, height, width : int
    C, H, Y and X; required.
kernel_size : int
    Odd; of all convolutions.
dilation : int
    Distance of taps in pixels.
num_layers : int
    L; each layer reads the hidden channels of the one before.
dtype : {'float32', 'float64'}
    Of weights, inputs, outputs and states.
seed : int
    Of the initial weights.
n_threads : int, optional
    Upper bound; by default OMP_NUM_THREADS, else all cores. Results do not depend on it.

Raises
------
ValueError, TypeError
    An argument out of range or of a wrong type; the message names it.
)");
  type.def(py::init(&construct), py::arg("cell") = "lstm", py::arg("channels") = py::none(),
           py::arg("hidden_channels") = py::none(), py::arg("height") = py::none(), py::arg("width") = py::none(),
           py::arg("kernel_size") = 3, py::arg("dilation") = 1, py::arg("num_layers") = 1, py::arg("dtype") = "float32",
           py::arg("seed") = 0, py::arg("n_threads") = py::none());

  const auto property = [&type](const char* name, auto getter, const char* doc) {
    type.def_property_readonly(name, [getter](const ConvObject& self) { return getter(self.layer.config()); }, doc);
  };
  property("cell", [](const ConvConfig& c) { return c.cell; }, "Name of the cell.");
  property("channels", [](const ConvConfig& c) { return c.channels; }, "C.");
  property("hidden_channels", [](const ConvConfig& c) { return c.hidden_channels; }, "H.");
  property("height", [](const ConvConfig& c) { return c.height; }, "Y.");
  property("width", [](const ConvConfig& c) { return c.width; }, "X.");
  property("kernel_size", [](const ConvConfig& c) { return c.kernel_size; }, "As given.");
  property("dilation", [](const ConvConfig& c) { return c.dilation; }, "As given.");
  property("num_layers", [](const ConvConfig& c) { return c.num_layers; }, "L.");
  property("dtype", [](const ConvConfig& c) { return numpy_dtype(c.dtype); }, "Element type.");
  property("seed", [](const ConvConfig& c) { return c.seed; }, "As given.");
  type.def_property(
      "n_threads", [](const ConvObject& self) { return threads_object(self.layer.n_threads()); },
      [](ConvObject& self, py::handle value) { self.layer.set_n_threads(to_threads(value, "n_threads")); },
      "Upper bound for threads; may be set.");
  type.def_property_readonly(
      "gates", [](const ConvObject& self) { return text_tuple(self.layer.gates()); },
      "Names of the gates: the order of the row blocks of W, R and b.");
  type.def_property_readonly(
      "states", [](const ConvObject& self) { return text_tuple(self.layer.states()); },
      "Names of the states: the keys of state dicts.");
  type.def_property_readonly(
      "parameters",
      [](ConvObject& self) {
        return tensor_views(self.layer.tensors(), self.names, self.layer.parameters(), self.layer.config().dtype,
                            self_of(self));
      },
      R"(Name -> writable view of the live weights: W_l0 (G*H, C, k, k), R_l0 (G*H, H, k, k), b_l0 (G*H,), of gru bR_l0 (G*H,),
of peephole P_l0 (3, H, Y, X) for i, f and o; then _l1 …

The dict is new each time: write into the arrays (parameters["b_l0"][:] = 0), not into the dict.)");

  type.def("forward", &forward, py::arg("x"), py::arg("state") = py::none(), py::arg("lengths") = py::none(),
           py::arg("training") = false,
           R"(forward(self, x, state=None, lengths=None, training=False)
--

Runs N sequences of images.

Parameters
----------
x : ndarray (N, T, C, Y, X), or list or tuple of ndarrays (T_i, C, Y, X)
    Real numbers; converted to dtype where they have another. NaN and inf are not looked for.
state : dict of ndarrays (L, N, H, Y, X), optional
    Initial state, with exactly the keys in states; by default zeros.
lengths : (N,) integers, optional
    Steps in use of each sequence, 1 … T. All of them by default.
training : bool
    Records a tape for backward().

Returns
-------
y : ndarray (N, T, H, Y, X), or list of ndarrays (T_i, H, Y, X) where x was a list
    h of the last layer; zero past each sequence's length.
state : dict of ndarrays (L, N, H, Y, X)
    After the last real step of each sequence.
tape : ConvTape
    With training=True only.

Raises
------
ValueError
    Shapes, lengths or state keys that do not fit.
TypeError
    An argument that is not numeric (complex, object, str), or a masked array.
)");
  type.def("backward", &backward, py::arg("tape"), py::arg("dy"), py::arg("dstate") = py::none(),
           py::arg("input_gradient") = true,
           R"(backward(self, tape, dy, dstate=None, input_gradient=True)
--

Gradients of a scalar loss after forward(..., training=True), by backpropagation through time (Werbos 1990).

Parameters
----------
tape : ConvTape
    Of this layer, with weights unchanged since. It serves once.
dy : ndarray (N, T, H, Y, X), or list of ndarrays (T_i, H, Y, X) where x was a list, or None
    Gradient of y; None for zeros. Values past a sequence's length are ignored.
dstate : dict of ndarrays (L, N, H, Y, X), optional
    Gradient of the final state; zeros by default.
input_gradient : bool
    Whether the gradient of x is wanted; without it x of the result is None, and its convolution is saved.

Returns
-------
Gradients
    x, state and parameters; exactly zero past each sequence's length.

Raises
------
ValueError
    A tape of another layer or used before, or shapes that do not fit.
RuntimeError
    The tape is in use by another thread.
)");
  type.def("step", &step, py::arg("x"), py::arg("state") = py::none(),
           R"(step(self, x, state=None)
--

One step of N streams of images; equals forward() over the same steps.

Parameters
----------
x : ndarray (N, C, Y, X)
state : dict of ndarrays (L, N, H, Y, X), optional
    Not modified; by default zeros.

Returns
-------
y : ndarray (N, H, Y, X)
state : dict of ndarrays (L, N, H, Y, X)
    New arrays: what the next step takes.

Raises
------
ValueError
    Shapes or keys that do not fit.
)");
  type.def(
      "init_state",
      [](const ConvObject& self, py::handle count) {
        return start_states(self, py::none(), to_integer(count, "N", 1)).value;
      },
      py::arg("N"),
      R"(init_state(self, N)
--

The state at the start of N sequences: zeros; dict of ndarrays (L, N, H, Y, X).
)");
  type.def("__repr__", &describe);
  type.def(py::pickle(&save_state, &restore_state));
}

}  // namespace lstmcore::bindings
