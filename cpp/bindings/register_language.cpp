// Parts of language models: embeddings, softmax over many symbols, generation.
#include "interrupts.hpp"
#include "objects.hpp"
#include "register.hpp"
#include "states.hpp"

#include <lstmcore/language.hpp>

#include <limits>
#include <utility>

namespace lstmcore::bindings {
namespace {

Dtype dtype_of(py::handle value, const char* name) {
  if (!py::isinstance<py::array>(value)) {
    throw py::type_error(std::string(name) + ": expected an ndarray of float32 or float64, got " + type_of(value));
  }
  return to_dtype(py::reinterpret_borrow<py::array>(value).dtype(), name);
}

/// Symbols as the library has them. Range checks beyond int32 are its own.
std::vector<std::int32_t> to_codes(py::handle value, const char* name) {
  // NumPy reads an empty list as floating point.
  if ((PyTuple_Check(value.ptr()) || PyList_Check(value.ptr())) && PySequence_Size(value.ptr()) == 0) return {};
  const auto wide = to_integers(value, {name}, -1);
  std::vector<std::int32_t> codes(static_cast<std::size_t>(wide.size()));
  for (std::size_t i = 0; i < codes.size(); ++i) {
    const std::int64_t code = wide.data()[i];
    if (code < 0 || code > std::numeric_limits<std::int32_t>::max()) {
      throw py::value_error(std::string(name) + "[" + std::to_string(i) + "]: expected a symbol from 0 on, got " +
                            std::to_string(code));
    }
    codes[i] = static_cast<std::int32_t>(code);
  }
  return codes;
}

py::array matrix(py::handle value, Dtype dtype, const char* name) {
  py::array array = to_array(value, dtype, {name});
  if (array.ndim() != 2 || array.size() == 0) {
    throw py::value_error(std::string(name) + ": expected two axes, none of them empty, got " + shape_text(array));
  }
  return array;
}

py::array embed_rows(py::handle table, py::handle codes) {
  const Dtype dtype = dtype_of(table, "table");
  const py::array rows = matrix(table, dtype, "table");
  const auto symbols = to_codes(codes, "codes");
  const auto count = static_cast<std::int64_t>(symbols.size());
  py::array result = new_array(dtype, {count, rows.shape(1)});
  if (count > 0)
    embed(dtype, {rows.data(), rows.shape(0), rows.shape(1)}, symbols.data(), count, result.mutable_data());
  return result;
}

py::array embed_gradient(py::handle codes, py::handle d_rows, py::handle symbols, py::handle n_threads) {
  const Dtype dtype = dtype_of(d_rows, "d_rows");
  const py::array slopes = matrix(d_rows, dtype, "d_rows");
  const auto wanted = to_codes(codes, "codes");
  const std::int64_t count = to_integer(symbols, "symbols", 1);
  const int threads = to_threads(n_threads, "n_threads");
  if (static_cast<py::ssize_t>(wanted.size()) != slopes.shape(0)) {
    throw py::value_error("d_rows: expected " + std::to_string(wanted.size()) + " rows, one for each of codes, got " +
                          shape_text(slopes));
  }
  py::array gradient = new_array(dtype, {count, slopes.shape(1)});
  void* const to = gradient.mutable_data();
  const Embedding embedding{nullptr, count, slopes.shape(1)};
  const ReleaseGil release;
  embed_backward(dtype, embedding, wanted.data(), slopes.shape(0), slopes.data(), to, threads);
  return gradient;
}

/// x (R, H), W (V, H), b (V,), labels (R,).
struct SoftmaxArguments {
  SoftmaxArguments(py::handle given_x, py::handle given_w, py::handle given_b, py::handle given_labels)
      : dtype(dtype_of(given_w, "W")),
        x(matrix(given_x, dtype, "x")),
        w(matrix(given_w, dtype, "W")),
        b(to_array(given_b, dtype, {"b"}, {w.shape(0)}, "(V,)")),
        labels(to_codes(given_labels, "labels")) {
    if (x.shape(1) != w.shape(1)) {
      throw py::value_error("x: expected (R, " + std::to_string(w.shape(1)) + "), as W has so many columns, got " +
                            shape_text(x));
    }
    if (static_cast<py::ssize_t>(labels.size()) != x.shape(0)) {
      throw py::value_error("labels: expected " + std::to_string(x.shape(0)) + ", one for each row of x, got " +
                            std::to_string(labels.size()));
    }
    layer = {w.data(), b.data(), w.shape(1), w.shape(0)};
  }

  /// run(losses, gradient or null) → the sum.
  template <class Run>
  py::tuple answer(py::handle given_scale, bool differentiate, Run&& run) const {
    const double scale = to_number(given_scale, "scale");
    py::array_t<double> losses(x.shape(0));
    double* const to_losses = losses.mutable_data();
    if (!differentiate) {
      {
        const ReleaseGil release;
        run(to_losses, nullptr);
      }
      return py::make_tuple(losses, py::none(), py::none(), py::none());
    }
    py::array dx = new_array(dtype, {x.shape(0), x.shape(1)}), dw = new_array(dtype, {w.shape(0), w.shape(1)}),
              db = new_array(dtype, {w.shape(0)});
    const SoftmaxGradient gradient{scale, dx.mutable_data(), dw.mutable_data(), db.mutable_data()};
    {
      const ReleaseGil release;
      run(to_losses, &gradient);
    }
    return py::make_tuple(losses, dx, dw, db);
  }

  Dtype dtype;
  py::array x, w, b;
  std::vector<std::int32_t> labels;
  DenseLayer layer;
};

py::tuple full_loss(py::handle x, py::handle w, py::handle b, py::handle labels, py::handle scale, py::handle gradient,
                    py::handle n_threads) {
  const SoftmaxArguments given(x, w, b, labels);
  const int threads = to_threads(n_threads, "n_threads");
  return given.answer(scale, to_bool(gradient, "gradient"), [&](double* losses, const SoftmaxGradient* wanted) {
    softmax_loss(given.dtype, given.layer, given.x.data(), given.x.shape(0), given.labels.data(), losses, wanted,
                 threads);
  });
}

py::tuple sampled_loss(py::handle x, py::handle w, py::handle b, py::handle labels, py::handle samples,
                       py::handle log_expected, py::handle label_log_expected, py::handle scale, py::handle gradient,
                       py::handle n_threads) {
  const SoftmaxArguments given(x, w, b, labels);
  const int threads = to_threads(n_threads, "n_threads");
  const auto drawn = to_codes(samples, "samples");
  const auto count = static_cast<std::int64_t>(drawn.size());
  const auto expected = to_doubles(log_expected, {"log_expected"}, count);
  const auto of_labels = to_doubles(label_log_expected, {"label_log_expected"}, given.x.shape(0));
  const SampledSymbols sampled{drawn.data(), count, expected.data(), of_labels.data()};
  return given.answer(scale, to_bool(gradient, "gradient"), [&](double* losses, const SoftmaxGradient* wanted) {
    sampled_softmax_loss(given.dtype, given.layer, given.x.data(), given.x.shape(0), given.labels.data(), sampled,
                         losses, wanted, threads);
  });
}

/// [(projection or None, W, b), …]
struct Parts {
  Parts(py::handle value, Dtype dtype, std::int64_t inputs) {
    if (!PyList_Check(value.ptr()) && !PyTuple_Check(value.ptr())) {
      throw py::type_error("output: expected a list of (projection or None, W, b), got " + type_of(value));
    }
    for (const py::handle item : py::reinterpret_borrow<py::sequence>(value)) {
      if (!PyTuple_Check(item.ptr()) || PyTuple_Size(item.ptr()) != 3) {
        throw py::type_error("output: expected tuples (projection or None, W, b), got " + repr_of(item));
      }
      const auto entry = py::reinterpret_borrow<py::tuple>(item);
      OutputPart part;
      py::array w = matrix(entry[1], dtype, "W"), b = to_array(entry[2], dtype, {"b"}, {w.shape(0)}, "(V,)");
      part.layer = {w.data(), b.data(), w.shape(1), w.shape(0)};
      if (!entry[0].is_none()) {
        py::array projection = to_array(entry[0], dtype, {"projection"}, {w.shape(1), inputs}, "(W's columns, H)");
        part.projection = projection.data();
        arrays.push_back(std::move(projection));
      }
      output.push_back(part);
      arrays.push_back(std::move(w));
      arrays.push_back(std::move(b));
    }
  }

  std::int64_t symbols() const noexcept {
    std::int64_t count = 1 - static_cast<std::int64_t>(output.size());
    for (const OutputPart& part : output) count += part.layer.outputs;
    return count;
  }

  OutputParts output;
  std::vector<py::array> arrays;
};

py::array log_softmax(py::handle x, py::handle parts, py::handle n_threads) {
  const Dtype dtype = dtype_of(x, "x");
  const py::array rows = matrix(x, dtype, "x");
  const Parts given(parts, dtype, rows.shape(1));
  const int threads = to_threads(n_threads, "n_threads");
  if (given.symbols() < 1) throw py::value_error("output: expected at least one symbol");
  py::array out = new_array(dtype, {rows.shape(0), given.symbols()});
  void* const to = out.mutable_data();
  const ReleaseGil release;
  log_probabilities(dtype, given.output, rows.data(), rows.shape(0), rows.shape(1), to, threads);
  return out;
}

py::tuple generate_texts(const RecurrentObject& self, py::handle table, py::handle parts, py::handle first,
                         py::handle state, py::handle length, py::handle temperature, py::handle top_k,
                         py::handle top_p, py::handle seed, py::handle forbidden, py::handle stops) {
  const Recurrent& layer = self.layer;
  const Dtype dtype = layer.config().dtype;
  const py::array rows = matrix(table, dtype, "table");
  const Parts given(parts, dtype, layer.output_width());
  const auto start = to_codes(first, "first");
  const auto count = static_cast<std::int64_t>(start.size());
  const std::int64_t slots = layer.layers() * layer.directions();
  const auto& names = layer.states();
  if (state.is_none()) throw py::type_error("state: expected a dict of arrays, got None");
  const GivenStates before = read_states(self.state_names, names, state, "state", [&](std::size_t s, py::handle value) {
    return to_array(value, dtype, {"state", -1, names[s].c_str()}, {slots, count, layer.state_width(s)}, "(L, N, H)");
  });
  const NewStates after = new_states(
      self.state_names, [&](std::size_t s) { return new_array(dtype, {slots, count, layer.state_width(s)}); });
  after.copy(before);
  SamplingOptions options;
  options.temperature = to_number(temperature, "temperature");
  options.top_k = to_integer(top_k, "top_k", 0);
  options.top_p = to_number(top_p, "top_p");
  options.seed = to_seed(seed, "seed");
  options.forbidden = to_codes(forbidden, "forbidden");
  if (!PyList_Check(stops.ptr())) throw py::type_error("stops: expected a list, got " + type_of(stops));
  for (const py::handle stop : py::reinterpret_borrow<py::list>(stops)) {
    options.stops.push_back(to_codes(stop, "stops"));
  }
  const std::int64_t most = to_integer(length, "length", 0);
  Interrupts interrupts;
  std::vector<std::vector<std::int32_t>> texts;
  try {
    const ReleaseGil release;
    texts = generate(layer, {rows.data(), rows.shape(0), rows.shape(1)}, given.output, start, after.data.data(), most,
                     options, interrupts.callback());
  } catch (const Interrupted&) {
    interrupts.rethrow();
    throw;
  }
  py::list result;
  for (const std::vector<std::int32_t>& text : texts) {
    result.append(py::array_t<std::int32_t>(static_cast<py::ssize_t>(text.size()), text.data()));
  }
  return py::make_tuple(result, after.value);
}

}  // namespace

void register_language(py::module_& module) {
  module.def("embed", &embed_rows, py::arg("table"), py::arg("codes"),
             R"(embed(table, codes)
--

table (V, E), codes (R,) integers in 0 … V-1 -> (R, E): the rows that codes name.)");
  module.def("embed_backward", &embed_gradient, py::arg("codes"), py::arg("d_rows"), py::arg("symbols"),
             py::arg("n_threads") = py::none(),
             R"(embed_backward(codes, d_rows, symbols, n_threads=None)
--

Gradient (symbols, E) of a table of rows: each one's sum of d_rows (R, E), in their order, for any n_threads.)");
  module.def("softmax_loss", &full_loss, py::arg("x"), py::arg("W"), py::arg("b"), py::arg("labels"),
             py::arg("scale") = 1.0, py::arg("gradient") = true, py::arg("n_threads") = py::none(),
             R"(softmax_loss(x, W, b, labels, scale=1.0, gradient=True, n_threads=None)
--

-log softmax(x Wᵀ + b)[label] of each row, without an array of all scores.

Parameters
----------
x : ndarray (R, H)
W, b : ndarray (V, H), (V,)
    Their dtype is that of everything.
labels : (R,) integers in 0 … V-1
scale : float
    Gradients are those of scale times the sum of all losses.
gradient : bool
n_threads : int, optional
    Results do not depend on it.

Returns
-------
losses : ndarray (R,) of float64
dx, dW, db : ndarray (R, H), (V, H), (V,); None without gradient
)");
  module.def(
      "sampled_softmax_loss", &sampled_loss, py::arg("x"), py::arg("W"), py::arg("b"), py::arg("labels"),
      py::arg("samples"), py::arg("log_expected"), py::arg("label_log_expected"), py::arg("scale") = 1.0,
      py::arg("gradient") = true, py::arg("n_threads") = py::none(),
      R"(sampled_softmax_loss(x, W, b, labels, samples, log_expected, label_log_expected, scale=1.0, gradient=True, n_threads=None)
--

The same over the label and the sampled symbols alone (Jean, Cho, Memisevic & Bengio 2015).

samples (S,): distinct symbols, shared by all rows. log_expected (S,), label_log_expected (R,): logarithm of the expected
number of draws, of each sample and of each label, by which their scores are lowered. A sample that is a row's label does
not count for that row. The rest as for softmax_loss.
)");
  module.def("log_probabilities", &log_softmax, py::arg("x"), py::arg("output"), py::arg("n_threads") = py::none(),
             R"(log_probabilities(x, output, n_threads=None)
--

x (R, H) -> (R, V): log p of all symbols. output: [(projection or None, W, b), …], one for a softmax; for an adaptive one
(Grave et al. 2017) the first has one output more for each further part, and those have the rest of the symbols.)");
  module.def(
      "generate", &generate_texts, py::arg("layer"), py::arg("table"), py::arg("output"), py::arg("first"),
      py::arg("state"), py::arg("length"), py::arg("temperature") = 1.0, py::arg("top_k") = 0, py::arg("top_p") = 1.0,
      py::arg("seed") = 0, py::arg("forbidden") = py::tuple(), py::arg("stops") = py::list(),
      R"(generate(layer, table, output, first, state, length, temperature=1.0, top_k=0, top_p=1.0, seed=0, forbidden=(), stops=[])
--

Draws symbols one after another for N texts, wholly in C++ without the GIL; Ctrl-C ends it.

Parameters
----------
layer : Recurrent
table : ndarray (V, E)
output : list
    As for log_probabilities.
first : (N,) integers
    The symbol that each text goes on from.
state : dict of ndarrays (L, N, H)
    Before that symbol; not modified.
length : int
    Symbols at most.
temperature : float
    Divides the scores; 0: always the most probable symbol.
top_k : int
    Only the k most probable symbols (Fan, Lewis & Dauphin 2018); 0: all.
top_p : float in (0, 1]
    Only the fewest symbols that reach this probability together (Holtzman et al. 2020).
seed : int
    Text n draws from its own random numbers.
forbidden : integers
    Symbols that are never drawn.
stops : list of (k,) integers
    A text ends with the first of these that it has come to end with.

Returns
-------
texts : list of N ndarrays of int32
    The symbols drawn, those of the stop included.
state : dict of ndarrays (L, N, H)
)");
}

}  // namespace lstmcore::bindings
