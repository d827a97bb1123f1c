// Heads that label steps: a dense layer over rows, conditional random fields.
#include "objects.hpp"
#include "register.hpp"

#include <lstmcore/crf.hpp>
#include <lstmcore/dense.hpp>

#include <limits>
#include <utility>

namespace lstmcore::bindings {
namespace {

/// The type of an array of weights, which everything else is converted to.
Dtype dtype_of(py::handle value, const char* name) {
  if (py::isinstance<py::array>(value)) {
    const py::dtype dtype = py::reinterpret_borrow<py::array>(value).dtype();
    if (dtype.equal(numpy_dtype(Dtype::float32))) return Dtype::float32;
    if (dtype.equal(numpy_dtype(Dtype::float64))) return Dtype::float64;
    throw py::type_error(std::string(name) + ": expected dtype float32 or float64, got " +
                         py::str(dtype).cast<std::string>());
  }
  throw py::type_error(std::string(name) + ": expected an ndarray of float32 or float64, got " + type_of(value));
}

// ---- dense layer

struct DenseArguments {
  DenseArguments(py::handle given_x, py::handle given_w, py::handle given_b)
      : dtype(dtype_of(given_w, "W")), x(to_array(given_x, dtype, {"x"})), w(to_array(given_w, dtype, {"W"})) {
    if (w.ndim() != 2 || w.size() == 0) throw py::value_error("W: expected (K, H), got " + shape_text(w));
    layer.outputs = w.shape(0);
    layer.inputs = w.shape(1);
    if (x.ndim() < 1 || x.ndim() > 3 || x.shape(x.ndim() - 1) != layer.inputs || x.size() == 0) {
      throw py::value_error("x: expected (..., " + std::to_string(layer.inputs) +
                            ") of at most three axes, as W has so many columns, got " + shape_text(x));
    }
    b = given_b.is_none() ? py::array() : to_array(given_b, dtype, {"b"}, {layer.outputs}, "(K,)");
    rows = x.size() / layer.inputs;
    layer.w = w.data();
    // backward() does not read it.
    layer.b = given_b.is_none() ? w.data() : b.data();
  }

  py::array like_x(std::int64_t width) const {
    if (x.ndim() == 1) return new_array(dtype, {width});
    if (x.ndim() == 2) return new_array(dtype, {x.shape(0), width});
    return new_array(dtype, {x.shape(0), x.shape(1), width});
  }

  Dtype dtype;
  py::array x, w, b;
  DenseLayer layer;
  std::int64_t rows = 0;
};

py::array forward(py::handle x, py::handle w, py::handle b, py::handle n_threads) {
  if (b.is_none()) throw py::type_error("b: expected (K,) numbers, got None");
  const DenseArguments given(x, w, b);
  const int threads = to_threads(n_threads, "n_threads");
  py::array y = given.like_x(given.layer.outputs);
  void* const out = y.mutable_data();
  const ReleaseGil release;
  dense_forward(given.dtype, given.layer, given.x.data(), given.rows, out, threads);
  return y;
}

py::tuple backward(py::handle x, py::handle w, py::handle dy, py::handle n_threads) {
  const DenseArguments given(x, w, py::none());
  const int threads = to_threads(n_threads, "n_threads");
  const py::array slopes = to_array(dy, given.dtype, {"dy"});
  const py::array expected = given.like_x(given.layer.outputs);
  bool fits = slopes.ndim() == expected.ndim();
  for (py::ssize_t axis = 0; fits && axis < slopes.ndim(); ++axis) fits = slopes.shape(axis) == expected.shape(axis);
  if (!fits) throw py::value_error("dy: expected " + shape_text(expected) + ", got " + shape_text(slopes));
  py::array dx = given.like_x(given.layer.inputs);
  py::array dw = new_array(given.dtype, {given.layer.outputs, given.layer.inputs});
  py::array db = new_array(given.dtype, {given.layer.outputs});
  void *const to_x = dx.mutable_data(), *const to_w = dw.mutable_data(), *const to_b = db.mutable_data();
  {
    const ReleaseGil release;
    dense_backward(given.dtype, given.layer, given.x.data(), given.rows, slopes.data(), to_x, to_w, to_b, threads);
  }
  return py::make_tuple(dx, dw, db);
}

// ---- conditional random fields

struct CrfArguments {
  CrfArguments(py::handle given_emissions, py::handle given_transitions, py::handle given_start, py::handle given_end,
               py::handle lengths)
      : dtype(dtype_of(given_transitions, "transitions")),
        transitions(to_array(given_transitions, dtype, {"transitions"})) {
    if (transitions.ndim() != 2 || transitions.size() == 0 || transitions.shape(0) != transitions.shape(1)) {
      throw py::value_error("transitions: expected (K, K), got " + shape_text(transitions));
    }
    labels = transitions.shape(0);
    start = to_array(given_start, dtype, {"start"}, {labels}, "(K,)");
    end = to_array(given_end, dtype, {"end"}, {labels}, "(K,)");
    emissions = read_batch(given_emissions, lengths, dtype, {"emissions", labels, "the number of transitions' rows"});
    scores = {transitions.data(), start.data(), end.data()};
    for (const std::int64_t length : emissions.lengths) steps += length;
  }

  Dtype dtype;
  py::array transitions, start, end;
  std::int64_t labels = 0;
  Batch emissions;
  CrfScores scores;
  std::int64_t steps = 0;
};

py::array_t<std::int32_t> to_labels(py::handle value, std::int64_t count, const char* name) {
  const auto wide = to_integers(value, {name}, count);
  py::array_t<std::int32_t> labels(static_cast<py::ssize_t>(count));
  std::int32_t* const to = labels.mutable_data();
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t label = wide.data()[i];
    if (label < 0 || label > std::numeric_limits<std::int32_t>::max()) {
      throw py::value_error(std::string(name) + "[" + std::to_string(i) + "]: expected a label >= 0, got " +
                            std::to_string(label));
    }
    to[i] = static_cast<std::int32_t>(label);
  }
  return labels;
}

py::tuple loss(py::handle emissions, py::handle labels, py::handle transitions, py::handle start, py::handle end,
               py::handle lengths, py::handle weights, py::handle gradient, py::handle n_threads) {
  const CrfArguments given(emissions, transitions, start, end, lengths);
  const bool differentiate = to_bool(gradient, "gradient");
  const int threads = to_threads(n_threads, "n_threads");
  const auto path = to_labels(labels, given.steps, "labels");
  py::array of_steps;
  if (!weights.is_none()) of_steps = to_array(weights, Dtype::float64, {"weights"}, {given.steps}, "(steps,)");
  const auto* const factors = weights.is_none() ? nullptr : static_cast<const double*>(of_steps.data());
  py::array_t<double> losses(static_cast<py::ssize_t>(given.emissions.count()));
  double* const to_losses = losses.mutable_data();
  const auto run = [&](const CrfGradient* wanted) {
    const ReleaseGil release;
    crf_loss(given.dtype, given.emissions.view(), given.scores, path.data(), factors, to_losses, wanted, threads);
  };
  if (!differentiate) {
    run(nullptr);
    return py::make_tuple(losses, py::none());
  }
  PerStep d_emissions = new_per_step(given.emissions, given.labels);
  py::array d_transitions = new_array(given.dtype, {given.labels, given.labels});
  py::array d_start = new_array(given.dtype, {given.labels});
  py::array d_end = new_array(given.dtype, {given.labels});
  const CrfGradient wanted{d_emissions.data.data(), d_transitions.mutable_data(), d_start.mutable_data(),
                           d_end.mutable_data()};
  run(&wanted);
  py::dict gradients;
  gradients["emissions"] = d_emissions.value;
  gradients["transitions"] = d_transitions;
  gradients["start"] = d_start;
  gradients["end"] = d_end;
  return py::make_tuple(losses, gradients);
}

py::tuple marginals(py::handle emissions, py::handle transitions, py::handle start, py::handle end, py::handle lengths,
                    py::handle n_threads) {
  const CrfArguments given(emissions, transitions, start, end, lengths);
  const int threads = to_threads(n_threads, "n_threads");
  PerStep result = new_per_step(given.emissions, given.labels);
  py::array_t<double> log_partition(static_cast<py::ssize_t>(given.emissions.count()));
  double* const to = log_partition.mutable_data();
  {
    const ReleaseGil release;
    crf_marginals(given.dtype, given.emissions.view(), given.scores, result.data.data(), to, threads);
  }
  return py::make_tuple(result.value, log_partition);
}

py::tuple decode(py::handle emissions, py::handle transitions, py::handle start, py::handle end, py::handle lengths,
                 py::handle n_threads) {
  const CrfArguments given(emissions, transitions, start, end, lengths);
  const int threads = to_threads(n_threads, "n_threads");
  py::array_t<std::int32_t> labels(static_cast<py::ssize_t>(given.steps));
  py::array_t<double> scores(static_cast<py::ssize_t>(given.emissions.count()));
  std::int32_t* const to_labels = labels.mutable_data();
  double* const to_scores = scores.mutable_data();
  {
    const ReleaseGil release;
    crf_decode(given.dtype, given.emissions.view(), given.scores, to_labels, to_scores, threads);
  }
  return py::make_tuple(labels, scores);
}

}  // namespace

void register_labelling(py::module_& module) {
  module.def("dense_forward", &forward, py::arg("x"), py::arg("W"), py::arg("b"), py::arg("n_threads") = py::none(),
             R"(dense_forward(x, W, b, n_threads=None)
--

x Wᵀ + b over rows.

Parameters
----------
x : ndarray (..., H), at most three axes
W : ndarray (K, H), float32 or float64: the type of everything
b : ndarray (K,)
n_threads : int, optional
    Upper bound; the result does not depend on it.

Returns
-------
y : ndarray (..., K)

Raises
------
ValueError, TypeError
    Shapes that do not fit, or arrays that are not numeric.
)");
  module.def("dense_backward", &backward, py::arg("x"), py::arg("W"), py::arg("dy"), py::arg("n_threads") = py::none(),
             R"(dense_backward(x, W, dy, n_threads=None)
--

Gradients of dense_forward.

Parameters
----------
x, W, n_threads
    As for dense_forward.
dy : ndarray (..., K)

Returns
-------
dx, dW, db : ndarrays (..., H), (K, H), (K,)

Raises
------
ValueError, TypeError
    As for dense_forward.
)");
  module.def(
      "crf_loss", &loss, py::arg("emissions"), py::arg("labels"), py::arg("transitions"), py::arg("start"),
      py::arg("end"), py::arg("lengths") = py::none(), py::arg("weights") = py::none(), py::arg("gradient") = true,
      py::arg("n_threads") = py::none(),
      R"(crf_loss(emissions, labels, transitions, start, end, lengths=None, weights=None, gradient=True, n_threads=None)
--

Loss of a linear-chain conditional random field (Lafferty, McCallum & Pereira 2001) and its gradient.

Parameters
----------
emissions : ndarray (N, T, K), or list of ndarrays (T_i, K)
    Score of each label at each step. NaN gives NaN.
labels : (steps,) integers 0 … K−1
    Of all steps in use, one sequence after the other.
transitions : ndarray (K, K), float32 or float64: the type of everything
    Score of going from the row's label to the column's; minus infinity forbids it.
start, end : ndarray (K,)
    Score of a first and of a last label; minus infinity forbids it.
lengths : (N,) integers, optional
    Steps in use.
weights : (steps,) numbers >= 0, optional
    Factor of each step's −log p(y_t | y_{t−1}, x). By default 1, which makes the loss −log p(y | x).
gradient : bool
n_threads : int, optional
    Upper bound; the result does not depend on it.

Returns
-------
losses : ndarray (N,) of float64
gradient : dict or None
    Of the sum of losses: 'emissions' in their form, zero past a sequence's length, 'transitions', 'start', 'end'.

Raises
------
ValueError, TypeError
    Shapes, labels or weights that do not fit, and labels along a forbidden transition.
)");
  module.def("crf_marginals", &marginals, py::arg("emissions"), py::arg("transitions"), py::arg("start"),
             py::arg("end"), py::arg("lengths") = py::none(), py::arg("n_threads") = py::none(),
             R"(crf_marginals(emissions, transitions, start, end, lengths=None, n_threads=None)
--

Probability of each label at each step, given the whole sequence. Arguments as for crf_loss.

Returns
-------
marginals : ndarray (N, T, K), or list of ndarrays (T_i, K)
    Zero past a sequence's length.
log_partition : ndarray (N,) of float64
    Logarithm of the sum of exp(score) over all label sequences; minus infinity where all are forbidden.

Raises
------
ValueError, TypeError
    As for crf_loss.
)");
  module.def("crf_decode", &decode, py::arg("emissions"), py::arg("transitions"), py::arg("start"), py::arg("end"),
             py::arg("lengths") = py::none(), py::arg("n_threads") = py::none(),
             R"(crf_decode(emissions, transitions, start, end, lengths=None, n_threads=None)
--

The most probable label sequences (Viterbi 1967). Arguments as for crf_loss.

Returns
-------
labels : ndarray (steps,) of int32
    Of all steps in use, one sequence after the other.
scores : ndarray (N,) of float64
    Of these sequences; minus infinity where all are forbidden, and the labels mean nothing.

Raises
------
ValueError, TypeError
    As for crf_loss.
)");
}

}  // namespace lstmcore::bindings
