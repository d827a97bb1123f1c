// Recurrent, Tape and Gradients.
#include "fast_method.hpp"
#include "objects.hpp"
#include "register.hpp"
#include "states.hpp"

#include <array>
#include <cstring>
#include <utility>

namespace lstmcore::bindings {
namespace {

// ---- states: dictionaries of arrays [L·D, N, H], one per state of the cell

std::int64_t state_rows(const Recurrent& layer) { return layer.layers() * layer.directions(); }

GivenStates read_states(const RecurrentObject& self, py::handle state, std::int64_t count, const char* argument) {
  const std::vector<std::string>& names = self.layer.states();
  return bindings::read_states(self.state_names, names, state, argument, [&](std::size_t s, py::handle value) {
    return to_array(value, self.layer.config().dtype, {argument, -1, names[s].c_str()},
                    {state_rows(self.layer), count, self.layer.state_width(s)}, "(L*D, N, H)");
  });
}

NewStates new_states(const RecurrentObject& self, std::int64_t count) {
  return bindings::new_states(self.state_names, [&](std::size_t s) {
    return new_array(self.layer.config().dtype, {state_rows(self.layer), count, self.layer.state_width(s)});
  });
}

/// Where sequences start: zeros, or the learned state.
NewStates start_states(const RecurrentObject& self, std::int64_t count) {
  NewStates result = new_states(self, count);
  result.clear();
  if (!self.layer.config().learn_initial_state) return result;
  const std::size_t element = size_of(self.layer.config().dtype);
  for (std::size_t s = 0; s < result.data.size(); ++s) {
    const std::string kind = self.layer.states()[s] + "0_l";
    auto* to = static_cast<char*>(result.data[s]);
    for (const TensorInfo& tensor : self.layer.tensors()) {  // in the order of the slots
      if (tensor.name.rfind(kind, 0) != 0) continue;
      const std::size_t bytes = static_cast<std::size_t>(tensor.count()) * element;
      const char* from =
          static_cast<const char*>(self.layer.parameters()) + static_cast<std::size_t>(tensor.offset) * element;
      for (std::int64_t n = 0; n < count; ++n, to += bytes) std::memcpy(to, from, bytes);
    }
  }
  return result;
}

std::vector<const void*> as_inputs(const std::vector<void*>& data) { return {data.begin(), data.end()}; }

std::int64_t output_width(const Recurrent& layer) { return layer.output_width(); }

// ---- the three passes

py::tuple forward(RecurrentObject& self, py::handle x, py::handle state, py::handle lengths, py::handle training,
                  py::handle codes) {
  const RecurrentConfig& config = self.layer.config();
  const bool record = to_bool(training, "training");
  Batch batch = read_batch(x, lengths, config.dtype, {"x", config.input_size});
  const Codes same(codes, batch, "codes");
  const GivenStates initial = read_states(self, state, batch.count(), "state");
  const PerStep y = new_per_step(batch, output_width(self.layer));
  const NewStates final_state = new_states(self, batch.count());
  Tape tape;
  if (record) tape = std::move(self.spare);
  {
    const ReleaseGil release;
    Sequences sequences = batch.view();
    sequences.codes = same.pointers();
    self.layer.forward(sequences, initial.pointers(), y.data.data(), final_state.data.data(), record ? &tape : nullptr);
  }
  if (!record) return py::make_tuple(y.value, final_state.value);
  auto recorded = std::make_unique<TapeObject>(self_of(self), self, std::move(tape), std::move(batch));
  return py::make_tuple(y.value, final_state.value, py::cast(std::move(recorded)));
}

std::unique_ptr<GradientsObject> backward(RecurrentObject& self, py::handle recorded, py::handle dy,
                                          py::handle dstate) {
  if (!py::isinstance<TapeObject>(recorded)) {
    throw py::type_error("tape: expected the Tape of a forward(..., training=True), got " + type_of(recorded));
  }
  auto& tape = recorded.cast<TapeObject&>();
  if (!tape.owner.is(self_of(self))) throw py::value_error("tape: recorded by another Recurrent");
  if (!tape.tape) {
    throw py::value_error("tape: used up by an earlier backward(); run forward(..., training=True) again");
  }
  const Batch& batch = tape.batch;
  const std::int64_t count = batch.count();

  PerStep d_outputs;
  std::vector<const void*> d_rows;
  if (!dy.is_none()) {
    d_outputs = read_per_step(dy, batch, output_width(self.layer), "dy");
    d_rows = as_inputs(d_outputs.data);
  }
  const GivenStates d_final = read_states(self, dstate, count, "dstate");
  const PerStep dx = new_per_step(batch, batch.features);
  const NewStates d_initial = new_states(self, count);
  py::array gradient = new_array(batch.dtype, {self.layer.parameter_count()});
  void* gradient_data = gradient.mutable_data();
  {
    const Exclusive use(tape.usage, "tape");
    const ReleaseGil release;
    self.layer.backward(tape.tape, dy.is_none() ? nullptr : d_rows.data(), d_final.pointers(), dx.data.data(),
                        d_initial.data.data(), gradient_data);
  }
  // Back to the layer at once: in a training loop the Python object lives until the next forward() has run.
  self.spare = std::move(tape.tape);
  auto result = std::make_unique<GradientsObject>();
  result->x = dx.value;
  result->state = d_initial.value;
  result->parameters = tensor_views(self.layer.tensors(), self.names, gradient_data, batch.dtype, gradient);
  return result;
}

NewStates copied_states(const RecurrentObject& self, py::handle state, std::int64_t count) {
  const GivenStates given = read_states(self, state, count, "state");
  NewStates result = new_states(self, count);
  result.copy(given);
  return result;
}

py::tuple step(const RecurrentObject& self, py::handle x, py::handle state) {
  const RecurrentConfig& config = self.layer.config();
  if (config.reverse) {
    throw py::value_error("step: this Recurrent reads in reverse, and a step has no end to start from; use forward()");
  }
  if (config.bidirectional) {
    throw py::value_error(
        "step: this Recurrent is bidirectional, and its reverse direction starts from the end of a sequence that a "
        "step "
        "does not have; use forward() on whole sequences, or bidirectional=False");
  }
  const py::array input = to_array(x, config.dtype, {"x"});
  if (input.ndim() != 2 || input.shape(0) == 0 || input.shape(1) != config.input_size) {
    throw py::value_error("x: expected (N, " + std::to_string(config.input_size) + ") with N >= 1, got " +
                          shape_text(input) + ": input_size is " + std::to_string(config.input_size));
  }
  const std::int64_t count = input.shape(0);
  const NewStates next = state.is_none() ? start_states(self, count) : copied_states(self, state, count);
  py::array y = new_array(config.dtype, {count, output_width(self.layer)});
  void* output = y.mutable_data();
  {
    const ReleaseGil release(self.layer.parameter_count() * count >= ReleaseGil::kWorthIt);
    self.layer.step(input.data(), count, next.data.data(), output);
  }
  return py::make_tuple(std::move(y), next.value);
}

PyTypeObject* recurrent_type = nullptr;

/// step() where nothing has to be converted.
PyObject* quick_step(PyObject* instance, PyObject* const* arguments) {
  const auto* self = plain_object<RecurrentObject>(instance, recurrent_type);
  PyObject* const state = arguments[1];
  if (self == nullptr || !PyDict_CheckExact(state)) return nullptr;
  const Recurrent& layer = self->layer;
  const RecurrentConfig& config = layer.config();
  const std::size_t states = self->state_names.size();
  std::array<py::object, 8> given;
  if (config.reverse || config.bidirectional || states > given.size()) return nullptr;
  if (PyDict_GET_SIZE(state) != static_cast<Py_ssize_t>(states)) return nullptr;
  const void* const x = ready_data(arguments[0], self->dtype, {-1, config.input_size});
  if (x == nullptr) return nullptr;
  const auto count = static_cast<std::int64_t>(py::detail::array_proxy(arguments[0])->dimensions[0]);
  for (std::size_t s = 0; s < states; ++s) {  // owned: looking up a key may run Python code, which could empty the dict
    given[s] = py::reinterpret_borrow<py::object>(PyDict_GetItemWithError(state, self->state_names[s].ptr()));
    if (given[s]) continue;
    PyErr_Clear();
    return nullptr;
  }
  std::array<const void*, given.size()> from{};
  for (std::size_t s = 0; s < states; ++s) {
    from[s] = ready_data(given[s].ptr(), self->dtype, {layer.layers(), count, self->state_widths[s]});
    if (from[s] == nullptr) return nullptr;
  }
  std::array<void*, given.size()> to{};
  py::dict next;
  for (std::size_t s = 0; s < states; ++s) {
    py::array array = new_array(config.dtype, {layer.layers(), count, self->state_widths[s]});
    to[s] = array.mutable_data();
    std::memcpy(to[s], from[s], static_cast<std::size_t>(array.nbytes()));
    if (PyDict_SetItem(next.ptr(), self->state_names[s].ptr(), array.ptr()) != 0) throw py::error_already_set();
  }
  py::array y = new_array(config.dtype, {count, layer.output_width()});
  void* const output = y.mutable_data();
  {
    const ReleaseGil release(layer.parameter_count() * count >= ReleaseGil::kWorthIt);
    layer.step(x, count, to.data(), output);
  }
  PyObject* const result = PyTuple_Pack(2, y.ptr(), next.ptr());
  if (result == nullptr) throw py::error_already_set();
  return result;
}

// ---- construction, pickling, text

std::unique_ptr<RecurrentObject> build(const RecurrentConfig& config) {
  const auto make = [&config] {
    const ReleaseGil release;  // orthogonal initial weights take a while in large layers
    return Recurrent(config);
  };
  return std::make_unique<RecurrentObject>(make());
}

std::unique_ptr<RecurrentObject> construct(py::handle cell, py::handle input_size, py::handle hidden_size,
                                           py::handle num_layers, py::handle bidirectional, py::handle dropout,
                                           py::handle dtype, py::handle seed, py::handle n_threads,
                                           py::handle variational_dropout, py::handle recurrent_dropout,
                                           py::handle zoneout_hidden, py::handle zoneout_cell,
                                           py::handle learn_initial_state, py::handle reverse, py::handle precision,
                                           const py::kwargs& cell_options) {
  py::dict fields;
  fields["cell"] = cell;
  fields["input_size"] = input_size;
  fields["hidden_size"] = hidden_size;
  fields["num_layers"] = num_layers;
  fields["bidirectional"] = bidirectional;
  fields["dropout"] = dropout;
  fields["variational_dropout"] = variational_dropout;
  fields["recurrent_dropout"] = recurrent_dropout;
  fields["zoneout_hidden"] = zoneout_hidden;
  fields["zoneout_cell"] = zoneout_cell;
  fields["learn_initial_state"] = learn_initial_state;
  fields["reverse"] = reverse;
  fields["dtype"] = dtype;
  fields["precision"] = precision;
  fields["seed"] = seed;
  fields["n_threads"] = n_threads;
  fields["cell_options"] = cell_options;
  return build(to_recurrent_config(fields, "Recurrent"));
}

py::dict save_state(const py::object& instance) {
  auto& self = instance.cast<RecurrentObject&>();
  const Recurrent& layer = self.layer;
  py::array weights = new_array(layer.config().dtype, {layer.parameter_count()});
  std::memcpy(weights.mutable_data(), std::as_const(layer).parameters(), static_cast<std::size_t>(weights.nbytes()));
  py::dict state;
  state["config"] = recurrent_config_object(layer.config());
  state["weights"] = weights;
  state["attributes"] = attributes_of(instance);
  return state;
}

std::pair<std::unique_ptr<RecurrentObject>, py::dict> restore_state(const py::dict& state) {
  const py::dict fields = to_dict(state_entry(state, "config"), "config");
  auto self = build(to_recurrent_config(fields, "config"));
  Recurrent& layer = self->layer;
  const py::array weights =
      to_array(state_entry(state, "weights"), layer.config().dtype, {"weights"}, {layer.parameter_count()}, "(P,)");
  std::memcpy(layer.parameters(), weights.data(), static_cast<std::size_t>(weights.nbytes()));
  layer.parameters_settled();
  return {std::move(self), to_dict(state_entry(state, "attributes"), "attributes")};
}

std::string describe(const py::object& instance) {
  const RecurrentConfig& config = instance.cast<RecurrentObject&>().layer.config();
  std::string text = py::str(py::type::handle_of(instance).attr("__name__")).cast<std::string>();
  text += "('" + config.cell + "', input_size=" + std::to_string(config.input_size) +
          ", hidden_size=" + std::to_string(config.hidden_size);
  if (config.num_layers != 1) text += ", num_layers=" + std::to_string(config.num_layers);
  if (config.bidirectional) text += ", bidirectional=True";
  if (config.reverse) text += ", reverse=True";
  for (const auto& [name, value] : {std::pair<const char*, double>{"dropout", config.dropout},
                                    {"variational_dropout", config.variational_dropout},
                                    {"recurrent_dropout", config.recurrent_dropout},
                                    {"zoneout_hidden", config.zoneout_hidden},
                                    {"zoneout_cell", config.zoneout_cell}}) {
    if (value != 0.0) text += std::string(", ") + name + "=" + repr_of(py::float_(value));
  }
  if (config.learn_initial_state) text += ", learn_initial_state=True";
  text += std::string(", dtype='") + dtype_name(config.dtype) + "'";
  if (config.precision != Precision::same_as_dtype) text += std::string(", precision='") + precision_name(config) + "'";
  for (const auto& [name, value] : options_object(config.cell_options)) {
    text += ", " + name.cast<std::string>() + "=" + repr_of(value);
  }
  return text + ")";
}

void register_tape(py::module_& module) {
  py::class_<TapeObject> tape(
      module, "Tape", py::is_final(),
      "What forward(..., training=True) saves for backward(). It keeps the layer and the input\n"
      "alive; the input and the weights must not change before backward().");
  tape.def_property_readonly(
      "lengths",
      [](const TapeObject& self) {
        const std::vector<std::int64_t>& lengths = self.batch.lengths;
        return py::array_t<std::int64_t>(static_cast<py::ssize_t>(lengths.size()), lengths.data());
      },
      "Steps of each recorded sequence: (N,) int64, a copy.");
  tape.def("__repr__", [](const TapeObject& self) {
    return "<Tape of " + std::to_string(self.batch.count()) + " sequences by " +
           py::repr(self.owner).cast<std::string>() + ">";
  });
  refuse_pickling(tape, "it belongs to one Recurrent of this process");

  py::class_<GradientsObject> gradients(module, "Gradients", py::is_final(), "What backward() returns.");
  gradients.def_readonly("x", &GradientsObject::x,
                         "Gradient of x, in the form that x had: (N, T, I), or a list of (T_i, I).");
  gradients.def_readonly("state", &GradientsObject::state, "Gradient of the initial state: name -> (L*D, N, H).");
  gradients.def_readonly("parameters", &GradientsObject::parameters,
                         "Gradient of each parameter, by name: views of one flat array (their .base).");
  gradients.def("__repr__", [](const GradientsObject& self) {
    return "<Gradients: x, state " + repr_of(py::tuple(self.state.attr("keys")())) + ", parameters " +
           py::repr(py::tuple(self.parameters.attr("keys")())).cast<std::string>() + ">";
  });
  refuse_pickling(gradients, "pickle its x, state and parameters");
}

}  // namespace

TapeObject::~TapeObject() {
  if (tape) layer.spare = std::move(tape);
}

void register_recurrent(py::module_& module) {
  register_tape(module);

  py::class_<RecurrentObject> type(
      module, "Recurrent",
      R"(Recurrent(cell='lstm', input_size, hidden_size, num_layers=1, bidirectional=False, dropout=0.0, dtype='float32', seed=0, n_threads=None, variational_dropout=0.0, recurrent_dropout=0.0, zoneout_hidden=0.0, zoneout_cell=0.0, learn_initial_state=False, reverse=False, precision=None, **cell_options)

A stack of recurrent layers: forward, backpropagation through time, and single steps. Batch first.

Shape letters: T time steps, N sequences, I input features, H hidden units, L layers, D directions (1 or 2).
All methods may run at once from several threads; they release the GIL.

Parameters
----------
cell : str
    A name in lstmcore.cells().
input_size, hidden_size : int
    I and H; required.
num_layers : int
    L; each layer reads the outputs of the one before.
bidirectional : bool
    Adds a reverse direction to every layer; outputs of both are concatenated, forward first.
dropout : float in [0, 1)
    On the outputs of every layer but the last, in forward(..., training=True) only (Zaremba et al. 2014).
dtype : {'float32', 'float64'}
    Of weights, inputs, outputs and states.
seed : int
    Of the initial weights and of dropout.
n_threads : int, optional
    Upper bound; by default OMP_NUM_THREADS, else all cores. Results do not depend on it.
variational_dropout : float in [0, 1)
    On each layer's input and on h where it enters R, one mask a sequence for all its steps, in training only
    (Gal & Ghahramani 2016).
recurrent_dropout : float in [0, 1)
    On the candidate (g, n or z) of each step, in training only (Semeniuta, Severyn & Barth 2016).
zoneout_hidden, zoneout_cell : float in [0, 1)
    Probability that a unit's h, or all its other states, keep the value of the step before; outside training their
    expectation (Krueger et al. 2017).
learn_initial_state : bool
    Adds parameters "h0_l0", … that sequences start from where no state is given.
reverse : bool
    Every layer reads each sequence from its last real step to its first; y stays in the order of x. Not together with
    bidirectional.
precision : {None, 'bfloat16'}
    Of the products of weights with inputs, states and gradients. 'bfloat16': operands rounded to bf16, sums, states and
    the weights themselves in float32; not with dtype 'float64', mlstm, xlstm and gates that feed back. None, or the name of
    the dtype: as they are.
**cell_options
    Options of the cell, as lstmcore.cells() lists them.

Raises
------
ValueError, TypeError
    An argument out of range or of a wrong type, or an option that the cell does not have; the message names it.
)");
  type.def(py::init(&construct), py::arg("cell") = "lstm", py::arg("input_size") = py::none(),
           py::arg("hidden_size") = py::none(), py::arg("num_layers") = 1, py::arg("bidirectional") = false,
           py::arg("dropout") = 0.0, py::arg("dtype") = "float32", py::arg("seed") = 0,
           py::arg("n_threads") = py::none(), py::arg("variational_dropout") = 0.0, py::arg("recurrent_dropout") = 0.0,
           py::arg("zoneout_hidden") = 0.0, py::arg("zoneout_cell") = 0.0, py::arg("learn_initial_state") = false,
           py::arg("reverse") = false, py::arg("precision") = py::none());

  const auto property = [&type](const char* name, auto getter, const char* doc) {
    type.def_property_readonly(
        name, [getter](const RecurrentObject& self) { return getter(self.layer.config()); }, doc);
  };
  property("cell", [](const RecurrentConfig& c) { return c.cell; }, "Name of the cell.");
  property("input_size", [](const RecurrentConfig& c) { return c.input_size; }, "I.");
  property("hidden_size", [](const RecurrentConfig& c) { return c.hidden_size; }, "H.");
  property("num_layers", [](const RecurrentConfig& c) { return c.num_layers; }, "L.");
  property("bidirectional", [](const RecurrentConfig& c) { return c.bidirectional; }, "Whether D is 2.");
  property("reverse", [](const RecurrentConfig& c) { return c.reverse; }, "Whether the one direction is the reverse.");
  property("dropout", [](const RecurrentConfig& c) { return c.dropout; }, "Probability, between layers.");
  property("variational_dropout", [](const RecurrentConfig& c) { return c.variational_dropout; }, "Probability.");
  property("recurrent_dropout", [](const RecurrentConfig& c) { return c.recurrent_dropout; }, "Probability.");
  property("zoneout_hidden", [](const RecurrentConfig& c) { return c.zoneout_hidden; }, "Probability.");
  property("zoneout_cell", [](const RecurrentConfig& c) { return c.zoneout_cell; }, "Probability.");
  property("learn_initial_state", [](const RecurrentConfig& c) { return c.learn_initial_state; }, "As given.");
  property("dtype", [](const RecurrentConfig& c) { return numpy_dtype(c.dtype); }, "Element type.");
  property("precision", &precision_name, "Of products: 'bfloat16', or the dtype.");
  property("seed", [](const RecurrentConfig& c) { return c.seed; }, "As given.");
  type.def_property(
      "n_threads", [](const RecurrentObject& self) { return threads_object(self.layer.config().n_threads); },
      [](RecurrentObject& self, py::handle value) { self.layer.set_n_threads(to_threads(value, "n_threads")); },
      "Upper bound for threads, as given; may be set, but not while another thread uses the layer.");
  property(
      "cell_options", [](const RecurrentConfig& c) { return options_object(c.cell_options); },
      "Options of the cell: a new dict.");
  type.def_property_readonly(
      "gates", [](const RecurrentObject& self) { return text_tuple(self.layer.gates()); },
      "Names of the gates: the order of the row blocks of W, R and b.");
  type.def_property_readonly(
      "states", [](const RecurrentObject& self) { return text_tuple(self.layer.states()); },
      "Names of the states: the keys of state dicts.");
  type.def_property_readonly(
      "parameters",
      [](RecurrentObject& self) {
        const py::object lease = WeightsLease::make(self);
        return tensor_views(self.layer.tensors(), self.names, self.layer.parameters(), self.layer.config().dtype,
                            lease);
      },
      R"(Name -> writable view of the live weights: W_l0 (G*H, I), R_l0 (G*H, H), b_l0 (G*H,), then _l0_reverse, _l1 …

The dict is new each time: write into the arrays (parameters["b_l0"][:] = 0), not into the dict. The views stay valid as
long as they exist, and so long each call looks for changes; what is written through a bare address after the last view
has gone stays unseen. Writing while another thread runs this layer gives that run some old and some new weights.)");

  type.def("forward", &forward, py::arg("x"), py::arg("state") = py::none(), py::arg("lengths") = py::none(),
           py::arg("training") = false, py::arg("codes") = py::none(),
           R"(forward(self, x, state=None, lengths=None, training=False, codes=None)
--

Runs N sequences.

Parameters
----------
x : ndarray (N, T, I), or list or tuple of ndarrays (T_i, I)
    Real numbers; converted to dtype where they have another. NaN and inf are not looked for.
state : dict of ndarrays (L*D, N, H), optional
    Initial state, with exactly the keys in states; by default zeros, or the learnt state. Row l*D + d is layer l, direction d.
lengths : (N,) integers, optional
    Steps in use of each sequence, 1 … T. All of them by default.
training : bool
    Applies dropout and zoneout, and records a tape for backward().
codes : (N, T) integers of at least 0, or list of (T_i,) where x was a list, optional
    Steps with the same code must have the same x, as the rows of an embedding have. What depends on x alone is then
    computed once for each code, where that is less work; backward() adds up the gradient of x at one of the steps of a
    code and leaves zeros at the others, so that only its sum by code has a meaning.

Returns
-------
y : ndarray (N, T, D*H), or list of ndarrays (T_i, D*H) where x was a list
    Outputs of the last layer; zero past each sequence's length.
state : dict of ndarrays (L*D, N, H)
    Final state: after the last real step of each sequence (reverse direction: after the first).
tape : Tape
    With training=True only.

Raises
------
ValueError
    Shapes, lengths or state keys that do not fit.
TypeError
    An argument that is not numeric (complex, object, str), or a masked array.
)");
  type.def("backward", &backward, py::arg("tape"), py::arg("dy"), py::arg("dstate") = py::none(),
           R"(backward(self, tape, dy, dstate=None)
--

Gradients of a scalar loss after forward(..., training=True), by backpropagation through time (Werbos 1990).

Parameters
----------
tape : Tape
    Of this layer, with weights and input unchanged since. It serves once.
dy : ndarray (N, T, D*H), or list of ndarrays (T_i, D*H) where x was a list, or None
    Gradient of y; None for zeros. Values past a sequence's length are ignored.
dstate : dict of ndarrays (L*D, N, H), optional
    Gradient of the final state; zeros by default.

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
  type.def("step", &step, py::arg("x"), py::arg("state") = py::none());
  recurrent_type = reinterpret_cast<PyTypeObject*>(type.ptr());
  FastMethod<&quick_step, 2>::install(type, "step",
                                      R"(step($self, x, state=None)
--

One step of N streams; equals forward() over the same steps.

Parameters
----------
x : ndarray (N, I)
state : dict of ndarrays (L, N, H), optional
    Not modified; by default zeros, or the learnt state.

Returns
-------
y : ndarray (N, H)
state : dict of ndarrays (L, N, H)
    New arrays: what the next step takes.

Raises
------
ValueError
    Shapes or keys that do not fit; a bidirectional or reverse layer.

Notes
-----
Fastest with C-contiguous arrays of the layer's dtype, given by position, and while no view of parameters exists: as long
as one does, each call compares all weights with those that it has packed.
)");
  type.def(
      "init_state",
      [](const RecurrentObject& self, py::handle count) { return start_states(self, to_integer(count, "N", 1)).value; },
      py::arg("N"),
      R"(init_state(self, N)
--

The state at the start of N sequences: zeros, or what learn_initial_state learnt; dict of ndarrays (L*D, N, H).
Where h is projected, the last axis of "h" is proj_size.
)");
  type.def("__repr__", &describe);
  type.def(py::pickle(&save_state, &restore_state));
}

}  // namespace lstmcore::bindings
