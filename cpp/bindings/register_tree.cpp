// TreeRecurrent, TreeTape and TreeGradients.
#include "objects.hpp"
#include "register.hpp"

#include <lstmcore/tree.hpp>

#include <cstring>
#include <utility>

namespace lstmcore::bindings {
namespace {

/// `TreeRecurrent`.
struct TreeObject {
  explicit TreeObject(TreeRecurrent&& built) : layer(std::move(built)), names(interned_tensor_names(layer.tensors())) {}

  TreeRecurrent layer;
  std::vector<py::str> names;
  TreeTape spare;  ///< of the last training pass whose Python tape is gone: its memory serves the next one
};

/// `TreeTape`. It has copies of all that it needs of the forest.
struct TreeTapeObject {
  TreeTapeObject(py::object layer_object, TreeObject& recorder, TreeTape&& recorded)
      : owner(std::move(layer_object)), layer(recorder), tape(std::move(recorded)), nodes(tape.nodes()) {}
  ~TreeTapeObject() {
    if (tape) layer.spare = std::move(tape);
  }
  TreeTapeObject(const TreeTapeObject&) = delete;
  TreeTapeObject& operator=(const TreeTapeObject&) = delete;

  py::object owner;  ///< keeps layer alive
  TreeObject& layer;
  TreeTape tape;
  std::int64_t nodes;
  Usage usage;
};

/// `TreeGradients`.
struct TreeGradientsObject {
  py::object x;
  py::dict parameters;
};

}  // namespace
}  // namespace lstmcore::bindings

namespace pybind11::detail {
template <>
struct type_caster<lstmcore::bindings::TreeObject>
    : lstmcore::bindings::ConstructedCaster<lstmcore::bindings::TreeObject> {};
template <>
struct type_caster<lstmcore::bindings::TreeTapeObject>
    : lstmcore::bindings::ConstructedCaster<lstmcore::bindings::TreeTapeObject> {};
}  // namespace pybind11::detail

namespace lstmcore::bindings {
namespace {

constexpr const char* kind_name(TreeKind kind) { return kind == TreeKind::nary ? "nary" : "child_sum"; }

TreeKind to_kind(py::handle value) {
  const std::string name = to_text(value, "kind");
  for (const TreeKind kind : {TreeKind::child_sum, TreeKind::nary}) {
    if (name == kind_name(kind)) return kind;
  }
  throw py::value_error("kind: expected 'child_sum' or 'nary', got " + repr_of(value));
}

py::tuple forward(TreeObject& self, py::handle x, py::handle parents, py::handle positions, py::handle training) {
  const TreeConfig& config = self.layer.config();
  const bool record = to_bool(training, "training");
  const py::array input = to_array(x, config.dtype, {"x"});
  if (input.ndim() != 2 || input.shape(0) == 0 || input.shape(1) != config.input_size) {
    throw py::value_error("x: expected (M, " + std::to_string(config.input_size) + ") with M >= 1 nodes, got " +
                          shape_text(input) + ": input_size is " + std::to_string(config.input_size));
  }
  const std::int64_t nodes = input.shape(0);
  const auto above = to_integers(parents, {"parents"}, nodes);
  py::array_t<std::int64_t> places;
  Forest forest;
  forest.x = input.data();
  forest.parents = above.data();
  forest.count = nodes;
  forest.features = config.input_size;
  if (!positions.is_none()) {
    places = to_integers(positions, {"positions"}, nodes);
    forest.positions = places.data();
  }
  py::array h = new_array(config.dtype, {nodes, config.hidden_size});
  py::array c = new_array(config.dtype, {nodes, config.hidden_size});
  void* h_data = h.mutable_data();
  void* c_data = c.mutable_data();
  TreeTape tape;
  if (record) tape = std::move(self.spare);
  {
    const ReleaseGil release;
    self.layer.forward(forest, h_data, c_data, record ? &tape : nullptr);
  }
  py::dict state;
  state["h"] = h;
  state["c"] = c;
  if (!record) return py::make_tuple(h, state);
  auto recorded = std::make_unique<TreeTapeObject>(self_of(self), self, std::move(tape));
  return py::make_tuple(h, state, py::cast(std::move(recorded)));
}

std::unique_ptr<TreeGradientsObject> backward(TreeObject& self, py::handle recorded, py::handle dh, py::handle dc) {
  if (!py::isinstance<TreeTapeObject>(recorded)) {
    throw py::type_error("tape: expected the TreeTape of a forward(..., training=True), got " + type_of(recorded));
  }
  auto& tape = recorded.cast<TreeTapeObject&>();
  if (!tape.owner.is(self_of(self))) throw py::value_error("tape: recorded by another TreeRecurrent");
  if (!tape.tape) {
    throw py::value_error("tape: used up by an earlier backward(); run forward(..., training=True) again");
  }
  const TreeConfig& config = self.layer.config();
  const auto read = [&](py::handle value, const char* name) {
    return value.is_none() ? py::array()
                           : to_array(value, config.dtype, {name}, {tape.nodes, config.hidden_size}, "(M, H)");
  };
  const py::array given_h = read(dh, "dh");
  const py::array given_c = read(dc, "dc");
  py::array dx = new_array(config.dtype, {tape.nodes, config.input_size});
  py::array gradient = new_array(config.dtype, {self.layer.parameter_count()});
  void* dx_data = dx.mutable_data();
  void* gradient_data = gradient.mutable_data();
  {
    const Exclusive use(tape.usage, "tape");
    const ReleaseGil release;
    self.layer.backward(tape.tape, dh.is_none() ? nullptr : given_h.data(), dc.is_none() ? nullptr : given_c.data(),
                        dx_data, gradient_data);
  }
  // Back to the layer at once: in a training loop the Python object lives until the next forward() has run.
  self.spare = std::move(tape.tape);
  auto result = std::make_unique<TreeGradientsObject>();
  result->x = dx;
  result->parameters = tensor_views(self.layer.tensors(), self.names, gradient_data, config.dtype, gradient);
  return result;
}

// ---- construction, pickling, text

std::unique_ptr<TreeObject> construct(py::handle kind, py::handle input_size, py::handle hidden_size, py::handle arity,
                                      py::handle dtype, py::handle seed, py::handle n_threads) {
  const auto required = [](py::handle value, const char* name) {
    if (value.is_none()) throw py::type_error(std::string("TreeRecurrent: missing required argument '") + name + "'");
    return to_integer(value, name, 1);
  };
  TreeConfig config;
  config.kind = to_kind(kind);
  config.input_size = required(input_size, "input_size");
  config.hidden_size = required(hidden_size, "hidden_size");
  if (config.kind == TreeKind::nary) {
    if (arity.is_none()) {
      throw py::type_error("TreeRecurrent: kind='nary' needs arity, the most children that a node may have");
    }
    config.arity = to_integer(arity, "arity", 1);
  } else if (!arity.is_none()) {
    throw py::value_error("arity: expected None with kind='child_sum', whose children have no positions, got " +
                          repr_of(arity));
  }
  config.dtype = to_dtype(dtype, "dtype");
  config.seed = to_seed(seed, "seed");
  config.n_threads = to_threads(n_threads, "n_threads");
  const auto make = [&config] {
    const ReleaseGil release;  // orthogonal initial weights take a while in large layers
    return TreeRecurrent(config);
  };
  return std::make_unique<TreeObject>(make());
}

py::object arity_object(const TreeConfig& config) {
  return config.kind == TreeKind::nary ? py::object(py::int_(config.arity)) : py::object(py::none());
}

py::dict save_state(const py::object& instance) {
  const TreeRecurrent& layer = instance.cast<TreeObject&>().layer;
  const TreeConfig& config = layer.config();
  py::array weights = new_array(config.dtype, {layer.parameter_count()});
  std::memcpy(weights.mutable_data(), layer.parameters(), static_cast<std::size_t>(weights.nbytes()));
  py::dict state;
  state["kind"] = kind_name(config.kind);
  state["input_size"] = config.input_size;
  state["hidden_size"] = config.hidden_size;
  state["arity"] = arity_object(config);
  state["dtype"] = dtype_name(config.dtype);
  state["seed"] = config.seed;
  state["n_threads"] = threads_object(config.n_threads);
  state["weights"] = weights;
  state["attributes"] = attributes_of(instance);
  return state;
}

std::pair<std::unique_ptr<TreeObject>, py::dict> restore_state(const py::dict& state) {
  const auto entry = [&state](const char* key) { return state_entry(state, key); };
  auto self = construct(entry("kind"), entry("input_size"), entry("hidden_size"), entry("arity"), entry("dtype"),
                        entry("seed"), entry("n_threads"));
  TreeRecurrent& layer = self->layer;
  const py::array weights =
      to_array(entry("weights"), layer.config().dtype, {"weights"}, {layer.parameter_count()}, "(P,)");
  std::memcpy(layer.parameters(), weights.data(), static_cast<std::size_t>(weights.nbytes()));
  return {std::move(self), to_dict(entry("attributes"), "attributes")};
}

std::string describe(const py::object& instance) {
  const TreeConfig& config = instance.cast<TreeObject&>().layer.config();
  std::string text = py::str(py::type::handle_of(instance).attr("__name__")).cast<std::string>();
  text += std::string("('") + kind_name(config.kind) + "', input_size=" + std::to_string(config.input_size) +
          ", hidden_size=" + std::to_string(config.hidden_size);
  if (config.kind == TreeKind::nary) text += ", arity=" + std::to_string(config.arity);
  return text + ", dtype='" + dtype_name(config.dtype) + "')";
}

void register_results(py::module_& module) {
  py::class_<TreeTapeObject> tape(module, "TreeTape", py::is_final(),
                                  "What TreeRecurrent.forward(..., training=True) saves for backward(). It keeps the "
                                  "layer alive;\nthe weights must not change before backward().");
  tape.def_readonly("nodes", &TreeTapeObject::nodes, "M of the recorded forest.");
  tape.def("__repr__", [](const TreeTapeObject& self) {
    return "<TreeTape of " + std::to_string(self.nodes) + " nodes by " + py::repr(self.owner).cast<std::string>() + ">";
  });
  refuse_pickling(tape, "it belongs to one TreeRecurrent of this process");

  py::class_<TreeGradientsObject> gradients(module, "TreeGradients", py::is_final(),
                                            "What TreeRecurrent.backward() returns.");
  gradients.def_readonly("x", &TreeGradientsObject::x, "Gradient of x: (M, I).");
  gradients.def_readonly("parameters", &TreeGradientsObject::parameters,
                         "Gradient of each parameter, by name: views of one flat array (their .base).");
  gradients.def("__repr__", [](const TreeGradientsObject& self) {
    return "<TreeGradients: x, parameters " + py::repr(py::tuple(self.parameters.attr("keys")())).cast<std::string>() +
           ">";
  });
  refuse_pickling(gradients, "pickle its x and parameters");
}

}  // namespace

void register_tree(py::module_& module) {
  register_results(module);

  py::class_<TreeObject> type(
      module, "TreeRecurrent",
      R"(TreeRecurrent(kind='child_sum', input_size, hidden_size, arity=None, dtype='float32', seed=0, n_threads=None)

A tree-LSTM (Tai, Socher & Manning 2015): forward, and backpropagation through the structure of trees.

Shape letters: M nodes of a forest, I input features, H hidden units, A arity.
All methods may run at once from several threads; they release the GIL.

Parameters
----------
kind : {'child_sum', 'nary'}
    'child_sum' adds up the h of any number of children; 'nary' has weights of its own for each child's position.
input_size, hidden_size : int
    I and H; required.
arity : int, optional
    A, the most children that a node may have; required for 'nary', and not allowed for 'child_sum'.
dtype : {'float32', 'float64'}
    Of weights, inputs and states.
seed : int
    Of the initial weights.
n_threads : int, optional
    Upper bound; by default OMP_NUM_THREADS, else all cores. Results do not depend on it.

Raises
------
ValueError, TypeError
    An argument out of range or of a wrong type; the message names it.
)");
  type.def(py::init(&construct), py::arg("kind") = "child_sum", py::arg("input_size") = py::none(),
           py::arg("hidden_size") = py::none(), py::arg("arity") = py::none(), py::arg("dtype") = "float32",
           py::arg("seed") = 0, py::arg("n_threads") = py::none());

  const auto property = [&type](const char* name, auto getter, const char* doc) {
    type.def_property_readonly(name, [getter](const TreeObject& self) { return getter(self.layer.config()); }, doc);
  };
  property("kind", [](const TreeConfig& c) { return kind_name(c.kind); }, "'child_sum' or 'nary'.");
  property("input_size", [](const TreeConfig& c) { return c.input_size; }, "I.");
  property("hidden_size", [](const TreeConfig& c) { return c.hidden_size; }, "H.");
  property("arity", [](const TreeConfig& c) { return arity_object(c); }, "A, or None with child_sum.");
  property("dtype", [](const TreeConfig& c) { return numpy_dtype(c.dtype); }, "Element type.");
  property("seed", [](const TreeConfig& c) { return c.seed; }, "As given.");
  type.def_property(
      "n_threads", [](const TreeObject& self) { return threads_object(self.layer.config().n_threads); },
      [](TreeObject& self, py::handle value) { self.layer.set_threads(to_threads(value, "n_threads")); },
      "Upper bound for threads, None for the default. May be set, but not while another thread runs this layer.");
  type.def_property_readonly(
      "gates", [](const TreeObject& self) { return text_tuple(self.layer.gates()); },
      "Names of the gates: the order of the row blocks of W and b.");
  type.def_property_readonly(
      "parameters",
      [](TreeObject& self) {
        return tensor_views(self.layer.tensors(), self.names, self.layer.parameters(), self.layer.config().dtype,
                            self_of(self));
      },
      R"(Name -> writable view of the live weights: W (4*H, I) and b (4*H,) with row blocks i, f, u, o, and U.

U is (4*H, H) with the same row blocks for 'child_sum', and ((3 + A)*H, A*H) for 'nary': row blocks i, f_1 … f_A, u, o,
where f_k is the forget gate of child k, and column blocks for h of children 1 … A.
The dict is new each time: write into the arrays (parameters["b"][:] = 0), not into the dict. The views stay valid as
long as they exist. Writing while another thread runs this layer gives that run some old and some new weights.)");

  type.def("forward", &forward, py::arg("x"), py::arg("parents"), py::arg("positions") = py::none(),
           py::arg("training") = false,
           R"(forward(self, x, parents, positions=None, training=False)
--

States of all nodes of a forest: one tree or many, nodes in any order.

Parameters
----------
x : ndarray (M, I)
    Features of each node; real numbers, converted to dtype where they have another. NaN and inf are not looked for.
parents : (M,) integers
    Index of each node's parent; -1 for a root.
positions : (M,) integers, optional
    'nary' only: 0 … A-1, each node's place among its parent's children; -1 for a root. By default siblings stand in the
    order of their indices, without gaps.
training : bool
    Records a tape for backward().

Returns
-------
h : ndarray (M, H)
    Outputs; those of whole trees are the rows where parents is -1.
state : dict of ndarrays (M, H)
    "h", the same array, and "c".
tape : TreeTape
    With training=True only.

Raises
------
ValueError
    Shapes that do not fit; a parent that is no node; a cycle; more children than arity; positions out of range or taken
    twice. The message names the node.
)");
  type.def("backward", &backward, py::arg("tape"), py::arg("dh"), py::arg("dc") = py::none(),
           R"(backward(self, tape, dh, dc=None)
--

Gradients of a scalar loss. Uses the tape up; the weights must be those of forward().

Parameters
----------
tape : TreeTape
    Of this layer's forward(..., training=True).
dh : ndarray (M, H), or None for zeros
    Gradient of every node's h as the loss reads it; what comes from parents is added here.
dc : ndarray (M, H), optional
    Gradient of c; zeros by default.

Returns
-------
TreeGradients
    x (M, I) and parameters.

Raises
------
ValueError
    A tape of another layer or used before, or shapes that do not fit.
RuntimeError
    The tape is in use by another thread.
)");
  type.def("__repr__", &describe);
  type.def(py::pickle(&save_state, &restore_state));
}

}  // namespace lstmcore::bindings
