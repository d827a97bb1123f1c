// EdgeModel: a quantised network, run by the very code that a device runs.
#include "objects.hpp"
#include "register.hpp"

#include <lstmcore/edge.hpp>

#include <cstring>
#include <utility>

namespace lstmcore::bindings {
namespace {

struct EdgeObject {
  explicit EdgeObject(EdgeProgram&& program) : model(std::move(program)) {}

  EdgeModel model;
};

struct EdgeStateObject {
  EdgeStateObject(py::object model, EdgeState&& fresh) : owner(std::move(model)), state(std::move(fresh)) {}

  py::object owner;  ///< keeps the model alive
  EdgeState state;
  Usage usage;
};

/// A dict of the program with the name that errors call it by; every key must be read, none may be left over.
class Fields {
 public:
  Fields(py::handle value, std::string name, std::vector<std::string> known)
      : fields_(to_dict(value, name)), name_(std::move(name)) {
    for (const auto& item : fields_) require_known(name_, to_text(item.first, name_ + " key"), known);
  }

  std::string name(const char* key) const { return name_.empty() ? key : name_ + "." + key; }
  py::object at(const char* key) const {
    if (!fields_.contains(key)) throw py::value_error(name(key) + ": missing");
    return fields_[key];
  }
  std::int64_t integer(const char* key) const { return to_integer(at(key), name(key)); }
  std::string text(const char* key) const { return to_text(at(key), name(key)); }
  py::sequence list(const char* key) const {
    const py::object value = at(key);
    if (!py::isinstance<py::list>(value) && !py::isinstance<py::tuple>(value)) {
      throw py::type_error(name(key) + ": expected a list, got " + type_of(value));
    }
    return py::reinterpret_borrow<py::sequence>(value);
  }

  /// None: empty. Anything but a vector of exactly this type is refused: a program is not a place for conversions.
  template <class T>
  std::vector<T> vector(const char* key) const {
    const py::object value = at(key);
    if (value.is_none()) return {};
    const py::dtype dtype = py::dtype::of<T>();
    if (!py::isinstance<py::array>(value))
      throw py::type_error(name(key) + ": expected an array, got " + type_of(value));
    const auto array = py::reinterpret_borrow<py::array>(value);
    if (!array.dtype().equal(dtype) || array.ndim() != 1) {
      throw py::type_error(name(key) + ": expected a vector of " + py::str(dtype).cast<std::string>() + ", got shape " +
                           shape_text(array) + " of " + py::str(array.dtype()).cast<std::string>());
    }
    const auto whole = py::array_t<T, py::array::c_style>::ensure(array);
    if (!whole) throw py::error_already_set();
    return {whole.data(), whole.data() + whole.size()};
  }

 private:
  py::dict fields_;
  std::string name_;
};

EdgeMatrix to_matrix(py::handle value, const std::string& name) {
  const Fields fields(value, name,
                      {"storage", "rows", "columns", "weights", "bias", "multiplier", "block_starts", "block_columns",
                       "shift", "first_blocks", "first_shift"});
  EdgeMatrix matrix;
  const std::string storage = fields.text("storage");
  const std::pair<const char*, EdgeStorage> known[] = {{"int8", EdgeStorage::int8},
                                                       {"int4", EdgeStorage::int4},
                                                       {"sparse", EdgeStorage::sparse},
                                                       {"float32", EdgeStorage::float32}};
  bool found = false;
  for (const auto& [text, entry] : known) {
    if (storage != text) continue;
    matrix.storage = entry;
    found = true;
  }
  if (!found) {
    throw py::value_error(fields.name("storage") + ": expected 'int8', 'int4', 'sparse' or 'float32', got '" + storage +
                          "'");
  }
  matrix.rows = fields.integer("rows");
  matrix.columns = fields.integer("columns");
  matrix.shift = fields.integer("shift");
  matrix.first_blocks = fields.integer("first_blocks");
  matrix.first_shift = fields.integer("first_shift");
  if (matrix.storage == EdgeStorage::float32) {
    matrix.float_weights = fields.vector<float>("weights");
    matrix.float_bias = fields.vector<float>("bias");
  } else {
    matrix.weights = fields.vector<std::int8_t>("weights");
    matrix.bias = fields.vector<std::int32_t>("bias");
  }
  matrix.multiplier = fields.vector<std::int32_t>("multiplier");
  matrix.block_starts = fields.vector<std::uint32_t>("block_starts");
  matrix.block_columns = fields.vector<std::uint16_t>("block_columns");
  return matrix;
}

EdgeLayer to_layer(py::handle value, const std::string& name, EdgeKind kind) {
  const Fields fields(
      value, name,
      {"cell", "options", "inputs", "hidden", "matrices", "peepholes", "initial_h", "initial_cells",
       "initial_stabilisers", "limit", "output_multiplier", "output_shift", "cell_bits", "peephole_bits"});
  EdgeLayer layer;
  layer.cell = fields.text("cell");
  for (const py::handle option : fields.list("options")) {
    layer.options.push_back(to_text(option, fields.name("options")));
  }
  layer.inputs = fields.integer("inputs");
  layer.hidden = fields.integer("hidden");
  for (const py::handle matrix : fields.list("matrices")) {
    layer.matrices.push_back(
        to_matrix(matrix, fields.name("matrices") + "[" + std::to_string(layer.matrices.size()) + "]"));
  }
  if (kind == EdgeKind::float32) {
    layer.float_peepholes = fields.vector<float>("peepholes");
    layer.float_initial_h = fields.vector<float>("initial_h");
    layer.float_initial_cells = fields.vector<float>("initial_cells");
  } else {
    layer.peepholes = fields.vector<std::int16_t>("peepholes");
    layer.initial_h = fields.vector<std::int16_t>("initial_h");
    layer.initial_cells = fields.vector<std::int16_t>("initial_cells");
  }
  layer.initial_stabilisers = fields.vector<std::int32_t>("initial_stabilisers");
  layer.limit = fields.integer("limit");
  layer.output_multiplier = fields.integer("output_multiplier");
  layer.output_shift = fields.integer("output_shift");
  layer.cell_bits = fields.integer("cell_bits");
  layer.peephole_bits = fields.integer("peephole_bits");
  return layer;
}

EdgeProgram to_program(py::handle value) {
  const Fields fields(value, "program",
                      {"kind", "directions", "pooling", "layers", "dense", "centre", "scale", "input_limit"});
  EdgeProgram program;
  const std::string kind = fields.text("kind");
  if (kind == "int16") {
    program.kind = EdgeKind::int16;
  } else if (kind == "float32") {
    program.kind = EdgeKind::float32;
  } else if (kind != "int8") {
    throw py::value_error("program.kind: expected 'int8', 'int16' or 'float32', got '" + kind + "'");
  }
  program.directions = fields.integer("directions");
  program.pooling = fields.text("pooling");
  for (const py::handle layer : fields.list("layers")) {
    program.layers.push_back(
        to_layer(layer, "program.layers[" + std::to_string(program.layers.size()) + "]", program.kind));
  }
  for (const py::handle item : fields.list("dense")) {
    const std::string name = "program.dense[" + std::to_string(program.dense.size()) + "]";
    const Fields part(item, name, {"matrix", "outputs", "activation", "limit", "output_multiplier", "output_shift"});
    EdgeDense dense;
    dense.matrix = to_matrix(part.at("matrix"), name + ".matrix");
    dense.outputs = part.integer("outputs");
    dense.activation = part.text("activation");
    dense.limit = part.integer("limit");
    dense.output_multiplier = part.integer("output_multiplier");
    dense.output_shift = part.integer("output_shift");
    program.dense.push_back(std::move(dense));
  }
  program.centre = fields.vector<float>("centre");
  program.scale = fields.vector<float>("scale");
  program.input_limit = fields.integer("input_limit");
  return program;
}

/// int32, float32 for a float32 program.
py::array new_outputs(const EdgeModel& model, std::initializer_list<py::ssize_t> shape) {
  const py::array::ShapeContainer extents(shape);
  if (model.program().kind == EdgeKind::float32) return py::array_t<float>(extents);
  return py::array_t<std::int32_t>(extents);
}

py::array run(const EdgeObject& self, py::handle x, py::handle lengths, py::handle n_threads) {
  const int threads = to_threads(n_threads, "n_threads");
  const Batch batch = read_batch(x, lengths, Dtype::float32, {"x", self.model.inputs(), "the program"});
  std::int64_t rows = batch.count();
  if (self.model.program().pooling == "none") {
    rows = 0;
    for (const std::int64_t length : batch.lengths) rows += length;
  }
  py::array out = new_outputs(self.model, {rows, self.model.outputs()});
  {
    const ReleaseGil release;
    self.model.run(batch.view(), out.mutable_data(), threads);
  }
  return out;
}

py::array step(EdgeObject& self, py::handle x, EdgeStateObject& stream) {
  if (!stream.owner.is(self_of(self))) throw py::value_error("state: it belongs to another model");
  const py::array values = to_array(x, Dtype::float32, {"x"}, {self.model.inputs()}, "(I,)");
  py::array out = new_outputs(self.model, {self.model.outputs()});
  const Exclusive use(stream.usage, "EdgeState");
  self.model.step(static_cast<const float*>(values.data()), stream.state, out.mutable_data());
  return out;
}

/// x (M, I) float32 to activations (M, I).
py::array quantise(const EdgeObject& self, py::handle x) {
  const py::array values = to_array(x, Dtype::float32, {"x"});
  if (values.ndim() != 2 || values.shape(1) != self.model.inputs()) {
    throw py::value_error("x: expected shape (M, " + std::to_string(self.model.inputs()) + "), got " +
                          shape_text(values));
  }
  const py::array::ShapeContainer shape{values.shape(0), values.shape(1)};
  py::array out;
  switch (self.model.program().kind) {
    case EdgeKind::int8:
      out = py::array_t<std::int8_t>(shape);
      break;
    case EdgeKind::int16:
      out = py::array_t<std::int16_t>(shape);
      break;
    case EdgeKind::float32:
      out = py::array_t<float>(shape);
      break;
  }
  for (py::ssize_t row = 0; row < values.shape(0); ++row) {
    self.model.quantise(static_cast<const float*>(values.data(row)), out.mutable_data(row));
  }
  return out;
}

}  // namespace

void register_edge(py::module_& module) {
  py::class_<EdgeObject> type(module, "EdgeModel", py::is_final(),
                              R"(EdgeModel(program)
--

A quantised network, run by the C99 runtime that a device runs, bit for bit.

Parameters
----------
program : dict
    `lstmcore.edge.program.Program.fields()`.

Raises
------
ValueError, TypeError
    Anything in the program that the runtime cannot rely on: shapes, ranges, sums that could overflow.
)");
  type.def(py::init([](py::handle program) { return std::make_unique<EdgeObject>(to_program(program)); }),
           py::arg("program"));
  type.def("run", &run, py::arg("x"), py::arg("lengths") = py::none(), py::arg("n_threads") = py::none(),
           R"(run(self, x, lengths=None, n_threads=None)
--

Outputs of whole sequences, as a device computes them.

Parameters
----------
x : ndarray (N, T, I), list of ndarrays (T_i, I), or Sequences
    As measured, float32.
lengths : (N,) integers, optional
    Steps in use.
n_threads : int, optional
    OMP_NUM_THREADS or the number of cores by default; results are the same for any.

Returns
-------
ndarray (N, K) int32, of float32 programs float32
    With pooling 'none' (ΣT_i, K), one sequence after the other.
)");
  type.def("quantise", &quantise, py::arg("x"),
           R"(quantise(self, x)
--

Rows of features as measured (M, I) to the activations (M, I) that the network reads.
)");
  type.def(
      "make_state",
      [](EdgeObject& self) { return std::make_unique<EdgeStateObject>(self_of(self), self.model.make_state()); },
      R"(make_state(self)
--

State and scratch of one stream.
)");
  type.def("step", &step, py::arg("x"), py::arg("state"),
           R"(step(self, x, state)
--

One time step: x (I,) as measured, outputs (K,) for the sequence so far. One direction only.
)");
  type.def_property_readonly(
      "memory",
      [](const EdgeObject& self) {
        const EdgeMemory memory = self.model.memory();
        py::dict result;
        result["state"] = memory.state;
        result["scratch"] = memory.scratch;
        result["buffer_per_step"] = memory.buffer_per_step;
        return result;
      },
      "Bytes that a device needs: state, scratch, and for both directions a buffer for each time step.");
  refuse_pickling(type, "it is made from its program in a moment; pickle that");

  py::class_<EdgeStateObject> state(module, "EdgeState", py::is_final(), "State of one stream of an EdgeModel.");
  state.def(
      "reset",
      [](EdgeStateObject& self) {
        const Exclusive use(self.usage, "EdgeState");
        self.state.reset();
      },
      "reset(self)\n--\n\nBack to the start of a sequence.");
  state.def(
      "copy",
      [](EdgeStateObject& self) {
        const Exclusive use(self.usage, "EdgeState");
        return std::make_unique<EdgeStateObject>(self.owner, self.state.copy());
      },
      "copy(self)\n--\n\nAn independent state at the same point.");
  state.def(
      "bytes",
      [](EdgeStateObject& self) {
        const Exclusive use(self.usage, "EdgeState");
        const std::vector<unsigned char> bytes = self.state.bytes();
        return py::bytes(reinterpret_cast<const char*>(bytes.data()), bytes.size());
      },
      "bytes(self)\n--\n\nAll that outlives a step, as a device has it in memory: activations, cells, stabilisers, "
      "pooling.");
  refuse_pickling(state, "it belongs to a model of this process");
}

}  // namespace lstmcore::bindings
