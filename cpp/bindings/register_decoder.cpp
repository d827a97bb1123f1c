// decode, decode_backward and DecoderTape: a Recurrent as the decoder of an encoder-decoder network.
#include "objects.hpp"
#include "register.hpp"
#include "states.hpp"

#include <lstmcore/decoder.hpp>

#include <algorithm>
#include <utility>

namespace lstmcore::bindings {
namespace {

/// Arrays of weights by name, kept alive.
struct DecoderArrays {
  py::array table, query, score, output, head_w, head_b;

  DecoderWeights pointers() const {
    const auto data = [](const py::array& array) { return array.size() == 0 ? nullptr : array.data(); };
    return {data(table), data(query), data(score), data(output), data(head_w), data(head_b)};
  }
};

/// `DecoderTape`.
struct DecoderTapeObject {
  py::object owner;  ///< the Recurrent
  RecurrentObject& layer;
  DecoderTape tape;
  DecoderConfig config;
  DecoderArrays arrays;
  std::int64_t count, steps, sources, source_steps;
  Usage usage;
};

Attention to_attention(py::handle value) {
  if (value.is_none()) return Attention::none;
  const std::string name = to_text(value, "attention");
  if (name == "additive") return Attention::additive;
  if (name == "dot") return Attention::dot;
  throw py::value_error("attention: expected 'additive', 'dot' or None, got " + repr_of(value));
}

/// Integers of any type as int64, (N, T).
py::array_t<std::int64_t> to_matrix(py::handle value, const char* name) {
  const py::array array = read_numbers(value, {name}, "integers");
  if (array.ndim() != 2 || array.size() == 0 || std::string("iub").find(array.dtype().kind()) == std::string::npos) {
    throw py::value_error(std::string(name) + ": expected integers (N, T), got " +
                          py::str(array.dtype()).cast<std::string>() + " of shape " + shape_text(array));
  }
  return py::array_t<std::int64_t, py::array::c_style | py::array::forcecast>(array);
}

py::array matrix_of(const py::dict& weights, const char* name, Dtype dtype, std::int64_t rows, std::int64_t columns) {
  if (!weights.contains(name)) throw py::value_error(std::string("weights: missing '") + name + "'");
  return to_array(weights[name], dtype, {"weights", -1, name}, {rows, columns}, "(rows, columns)");
}

py::array vector_of(const py::dict& weights, const char* name, Dtype dtype, std::int64_t count) {
  if (!weights.contains(name)) throw py::value_error(std::string("weights: missing '") + name + "'");
  return to_array(weights[name], dtype, {"weights", -1, name}, {count}, "(n,)");
}

NewStates states_for(const RecurrentObject& self, std::int64_t count) {
  return new_states(self.state_names, [&](std::size_t s) {
    return new_array(self.layer.config().dtype, {self.layer.layers(), count, self.layer.state_width(s)});
  });
}

py::array sources_of(py::handle value, Dtype dtype, const char* name) {
  if (value.is_none()) throw py::value_error(std::string(name) + ": attention needs it, got None");
  py::array array = to_array(value, dtype, {name});
  if (array.ndim() != 3 || array.size() == 0) {
    throw py::value_error(std::string(name) + ": expected (N, S, width), got " + shape_text(array));
  }
  return array;
}

py::dict forward(RecurrentObject& self, const py::dict& weights, py::handle tokens, py::handle lengths,
                 py::handle attention, py::handle values, py::handle keys, py::handle source_lengths,
                 py::handle input_feeding, py::handle state, py::handle output, py::handle owners, py::handle sample,
                 py::handle want_weights, py::handle training) {
  const Dtype dtype = self.layer.config().dtype;
  const std::int64_t width = self.layer.output_width();
  const bool record = to_bool(training, "training");
  const bool wants = to_bool(want_weights, "want_weights");

  DecoderConfig config;
  config.attention = to_attention(attention);
  config.input_feeding = to_bool(input_feeding, "input_feeding");
  DecoderArrays arrays;
  if (!weights.contains("table")) throw py::value_error("weights: missing 'table'");
  arrays.table = to_array(weights["table"], dtype, {"weights", -1, "table"});
  if (arrays.table.ndim() != 2 || arrays.table.size() == 0) {
    throw py::value_error("weights['table']: expected (V, M), got " + shape_text(arrays.table));
  }
  config.tokens = arrays.table.shape(0);
  config.embedding = arrays.table.shape(1);

  const py::array_t<std::int64_t> given = to_matrix(tokens, "tokens");
  const std::int64_t count = given.shape(0);
  const std::int64_t steps = given.shape(1);
  py::array_t<std::int32_t> read({count, steps});
  std::transform(given.data(), given.data() + given.size(), read.mutable_data(), [](std::int64_t token) {
    return static_cast<std::int32_t>(std::clamp<std::int64_t>(token, -1, std::numeric_limits<std::int32_t>::max()));
  });
  const auto used = to_integers(lengths, {"lengths"}, count);

  DecoderInput input;
  input.tokens = read.mutable_data();
  input.lengths = used.data();
  input.count = count;
  input.steps = steps;
  py::array of_values;
  py::array of_keys;
  py::array_t<std::int64_t> of_lengths;
  py::array_t<std::int64_t> of_owners;
  if (config.attention != Attention::none) {
    of_values = sources_of(values, dtype, "values");
    of_keys = keys.is(values) ? of_values : sources_of(keys, dtype, "keys");
    if (of_keys.shape(0) != of_values.shape(0) || of_keys.shape(1) != of_values.shape(1)) {
      throw py::value_error("keys: expected as many sources and steps as values, " + shape_text(of_values) + ", got " +
                            shape_text(of_keys));
    }
    config.value_width = of_values.shape(2);
    config.key_width = of_keys.shape(2);
    input.values = of_values.data();
    input.keys = of_keys.data();
    input.sources = of_values.shape(0);
    input.source_steps = of_values.shape(1);
    of_lengths = to_integers(source_lengths, {"source_lengths"}, input.sources);
    input.source_lengths = of_lengths.data();
    arrays.output = matrix_of(weights, "output", dtype, width, config.value_width + width);
    if (config.attention == Attention::additive) {
      arrays.query = matrix_of(weights, "query", dtype, config.key_width, width);
      arrays.score = vector_of(weights, "score", dtype, config.key_width);
    }
    if (!owners.is_none()) {
      of_owners = to_integers(owners, {"owners"}, count);
      input.owners = of_owners.data();
    }
  } else if (!values.is_none() || !keys.is_none() || !source_lengths.is_none() || !owners.is_none()) {
    throw py::value_error("values, keys, source_lengths, owners: without attention expected None");
  }
  const GivenStates initial =
      read_states(self.state_names, self.layer.states(), state, "state", [&](std::size_t s, py::handle value) {
        return to_array(value, dtype, {"state", -1, self.layer.states()[s].c_str()},
                        {self.layer.layers(), count, self.layer.state_width(s)}, "(L, N, H)");
      });
  input.initial = initial.pointers();
  py::array before;
  if (!output.is_none()) {
    if (!config.input_feeding) throw py::value_error("output: it is read with input_feeding only; leave it out");
    before = to_array(output, dtype, {"output"}, {count, width}, "(N, P)");
    input.initial_output = before.data();
  }
  py::array_t<std::uint8_t> chosen;
  if (!sample.is_none()) {
    const py::array_t<std::int64_t> flags = to_matrix(sample, "sample");
    if (flags.shape(0) != count || flags.shape(1) != steps) {
      throw py::value_error("sample: expected the shape of tokens, got " + shape_text(flags));
    }
    chosen = py::array_t<std::uint8_t>({count, steps});
    std::transform(flags.data(), flags.data() + flags.size(), chosen.mutable_data(),
                   [](std::int64_t flag) { return static_cast<std::uint8_t>(flag != 0); });
    input.sample = chosen.data();
    arrays.head_w = matrix_of(weights, "head_W", dtype, config.tokens, width);
    arrays.head_b = vector_of(weights, "head_b", dtype, config.tokens);
  }

  py::array outputs = new_array(dtype, {count, steps, width});
  const NewStates final_state = states_for(self, count);
  py::array attended;
  DecoderOutput to;
  to.outputs = outputs.mutable_data();
  to.final_state = final_state.data.data();
  if (wants) {
    attended = new_array(dtype, {count, steps, input.source_steps});
    to.weights = attended.mutable_data();
  }
  DecoderTape tape;
  {
    const ReleaseGil release;
    decode(self.layer, config, arrays.pointers(), input, to, record ? &tape : nullptr);
  }
  py::dict result;
  result["outputs"] = outputs;
  result["state"] = final_state.value;
  result["tokens"] = read;
  if (wants) result["weights"] = attended;
  if (record) {
    result["tape"] = py::cast(std::unique_ptr<DecoderTapeObject>(new DecoderTapeObject{self_of(self),
                                                                                       self,
                                                                                       std::move(tape),
                                                                                       config,
                                                                                       std::move(arrays),
                                                                                       count,
                                                                                       steps,
                                                                                       input.sources,
                                                                                       input.source_steps,
                                                                                       {}}));
  }
  return result;
}

py::dict backward(py::handle recorded, py::handle d_outputs) {
  if (!py::isinstance<DecoderTapeObject>(recorded)) {
    throw py::type_error("tape: expected the DecoderTape of decode(..., training=True), got " + type_of(recorded));
  }
  auto& tape = recorded.cast<DecoderTapeObject&>();
  const RecurrentObject& self = tape.layer;
  const DecoderConfig& config = tape.config;
  const Dtype dtype = self.layer.config().dtype;
  const std::int64_t width = self.layer.output_width();
  const py::array given = to_array(d_outputs, dtype, {"d_outputs"}, {tape.count, tape.steps, width}, "(N, T, P)");
  py::dict result;
  const auto make = [&](const char* name, std::initializer_list<std::int64_t> shape) {
    py::array array = new_array(dtype, shape);
    result[name] = array;
    return array.mutable_data();
  };
  py::array flat = new_array(dtype, {self.layer.parameter_count()});
  const NewStates initial = states_for(self, tape.count);
  DecoderGradients to;
  to.layers = flat.mutable_data();
  to.initial = initial.data.data();
  to.table = make("table", {config.tokens, config.embedding});
  if (config.attention != Attention::none) {
    to.output = make("output", {width, config.value_width + width});
    to.values = make("values", {tape.sources, tape.source_steps, config.value_width});
    to.keys = make("keys", {tape.sources, tape.source_steps, config.key_width});
  }
  if (config.attention == Attention::additive) {
    to.query = make("query", {config.key_width, width});
    to.score = make("score", {config.key_width});
  }
  {
    const Exclusive use(tape.usage, "tape");
    const ReleaseGil release;
    decode_backward(self.layer, tape.tape, tape.arrays.pointers(), given.data(), to);
  }
  result["state"] = initial.value;
  result["layers"] = tensor_views(self.layer.tensors(), self.names, flat.mutable_data(), dtype, flat);
  return result;
}

}  // namespace

void register_decoder(py::module_& module) {
  py::class_<DecoderTapeObject> tape(module, "DecoderTape", py::is_final(),
                                     "What decode(..., training=True) saves for decode_backward(). It keeps the layer "
                                     "and the weights alive;\nboth must not change before decode_backward().");
  tape.def("__repr__", [](const DecoderTapeObject& self) {
    return "<DecoderTape of " + std::to_string(self.count) + " sequences by " +
           py::repr(self.owner).cast<std::string>() + ">";
  });
  refuse_pickling(tape, "it belongs to one Recurrent of this process");

  module.def(
      "decode", &forward, py::arg("layer"), py::arg("weights"), py::arg("tokens"), py::arg("lengths"),
      py::arg("attention") = py::none(), py::arg("values") = py::none(), py::arg("keys") = py::none(),
      py::arg("source_lengths") = py::none(), py::arg("input_feeding") = false, py::arg("state") = py::none(),
      py::arg("output") = py::none(), py::arg("owners") = py::none(), py::arg("sample") = py::none(),
      py::arg("want_weights") = false, py::arg("training") = false,
      R"(decode(layer, weights, tokens, lengths, attention=None, values=None, keys=None, source_lengths=None, input_feeding=False, state=None, output=None, owners=None, sample=None, want_weights=False, training=False)
--

Runs a Recurrent as a decoder: it reads embedded tokens and looks at a source while it steps.

Beside the usual letters: V tokens, M numbers of an embedded token, P width of the layer's h, S steps of a source, E
width of its values, A width of its keys.

Parameters
----------
layer : Recurrent
    One direction, forwards, of a cell that runs step by step. input_size is M, + E with 'additive', + P with
    input_feeding: columns in this order.
weights : dict of ndarrays of the layer's dtype
    "table" (V, M); with attention "output" (P, E + P); with 'additive' "query" (A, P) and "score" (A,); with sample
    "head_W" (V, P) and "head_b" (V,).
tokens : (N, T) integers 0 … V−1
    What each step reads.
lengths : (N,) integers
    Steps in use, 1 … T.
attention : {'additive', 'dot'} or None
    'additive': context of h before the step, read by it: scores "score"ᵀ tanh("query" h + key) (Bahdanau, Cho &
    Bengio 2015). 'dot': context of h after the step, scores hᵀ key, A = P (Luong, Pham & Manning 2015). With either the
    output is o = tanh("output" [context; h]), without attention it is h.
values, keys : ndarrays (N, S, E) and (N, S, A), with attention
    Of each source; may be one array.
source_lengths : (N,) integers, with attention
    Steps of each source, 1 … S.
input_feeding : bool
    Whether each step also reads o of the one before (Luong, Pham & Manning 2015).
state : dict of ndarrays (L, N, H), optional
    Initial state, as Recurrent.forward takes it.
output : ndarray (N, P), optional
    o before the first step, with input_feeding; by default zeros.
owners : (N,) integers, optional
    Which source each sequence looks at; by default its own. Not in training.
sample : (N, T) bool, optional
    Tokens, but first ones, that are replaced by what the head finds most probable after the step before.
want_weights : bool
    Whether attention weights are returned.
training : bool
    Applies the layer's dropout and records a tape.

Returns
-------
dict
    "outputs" (N, T, P), zero past each length; "state", the final one; "tokens" (N, T) int32 as they were read;
    "weights" (N, T, S) and "tape", where asked for.

Raises
------
ValueError, TypeError
    Arguments that do not fit; the message names them.
)");
  module.def("decode_backward", &backward, py::arg("tape"), py::arg("d_outputs"),
             R"(decode_backward(tape, d_outputs)
--

Gradients of a scalar loss after decode(..., training=True). Uses the tape up.

Parameters
----------
tape : DecoderTape
d_outputs : ndarray (N, T, P)
    Gradient of "outputs"; what lies past a sequence's length is not read.

Returns
-------
dict
    "layers", a dict as of Recurrent.backward; "state"; and the gradients of "table", "output", "query", "score",
    "values" and "keys", where there are such.

Raises
------
ValueError
    A tape used before, or a shape that does not fit.
RuntimeError
    The tape is in use by another thread.
)");
}

}  // namespace lstmcore::bindings
