// Connectionist temporal classification.
#include "objects.hpp"
#include "register.hpp"

#include <lstmcore/ctc.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace lstmcore::bindings {
namespace {

/// float32 where the logits are an array of it (or a list that begins with one), else float64.
Dtype dtype_of(py::handle logits) {
  py::object first = py::reinterpret_borrow<py::object>(logits);
  if ((py::isinstance<py::list>(first) || py::isinstance<py::tuple>(first)) && py::len(first) > 0)
    first = first[py::int_(0)];
  if (!py::isinstance<py::array>(first)) return Dtype::float64;
  return py::reinterpret_borrow<py::array>(first).dtype().equal(numpy_dtype(Dtype::float32)) ? Dtype::float32
                                                                                             : Dtype::float64;
}

std::int64_t to_blank(py::handle value) { return to_integer(value, "blank", 0); }

py::tuple loss(py::handle logits, py::handle labels, py::handle counts, py::handle blank, py::handle lengths,
               py::handle weights, py::handle gradient, py::handle n_threads) {
  const Batch batch = read_batch(logits, lengths, dtype_of(logits), {"logits"});
  const std::int64_t blank_label = to_blank(blank);
  const bool differentiate = to_bool(gradient, "gradient");
  const int threads = to_threads(n_threads, "n_threads");
  const auto each = to_integers(counts, {"counts"}, batch.count());
  std::int64_t total = 0;
  for (std::int64_t n = 0; n < batch.count(); ++n) {
    if (each.data()[n] < 0 || each.data()[n] > std::numeric_limits<std::int32_t>::max()) {
      throw py::value_error("counts[" + std::to_string(n) + "]: expected 0 or more, got " +
                            std::to_string(each.data()[n]));
    }
    total += each.data()[n];
  }
  const auto wide = to_integers(labels, {"labels"}, total);
  std::vector<std::int32_t> narrow(static_cast<std::size_t>(total));
  for (std::int64_t k = 0; k < total; ++k) {
    // What does not fit becomes −1, which the library refuses by name of its sequence.
    const std::int64_t label = wide.data()[k];
    narrow[static_cast<std::size_t>(k)] =
        label > std::numeric_limits<std::int32_t>::max() || label < 0 ? -1 : static_cast<std::int32_t>(label);
  }
  py::array factors;
  if (!weights.is_none()) factors = to_array(weights, Dtype::float64, {"weights"}, {batch.count()}, "(N,)");
  const auto* const of_sequences = weights.is_none() ? nullptr : static_cast<const double*>(factors.data());
  py::array_t<double> losses(static_cast<py::ssize_t>(batch.count()));
  double* const to_losses = losses.mutable_data();
  PerStep slopes;
  if (differentiate) slopes = new_per_step(batch, batch.features);
  {
    const ReleaseGil release;
    ctc_loss(batch.dtype, batch.view(), narrow.data(), each.data(), blank_label, of_sequences, to_losses,
             differentiate ? slopes.data.data() : nullptr, threads);
  }
  return py::make_tuple(losses, differentiate ? slopes.value : py::object(py::none()));
}

py::list greedy(py::handle logits, py::handle blank, py::handle lengths) {
  const Batch batch = read_batch(logits, lengths, dtype_of(logits), {"logits"});
  const std::int64_t blank_label = to_blank(blank);
  std::int64_t steps = 0;
  for (const std::int64_t length : batch.lengths) steps += length;
  std::vector<std::int32_t> labels(static_cast<std::size_t>(steps));
  std::vector<std::int64_t> counts(batch.lengths.size());
  {
    const ReleaseGil release;
    ctc_greedy(batch.dtype, batch.view(), blank_label, labels.data(), counts.data());
  }
  py::list found;
  const std::int32_t* from = labels.data();
  for (const std::int64_t count : counts) {
    found.append(py::array_t<std::int32_t>(static_cast<py::ssize_t>(count), from));
    from += count;
  }
  return found;
}

py::list beam(py::handle logits, py::handle blank, py::handle width, py::handle score, py::handle lengths) {
  const Batch batch = read_batch(logits, lengths, dtype_of(logits), {"logits"});
  const std::int64_t blank_label = to_blank(blank);
  const std::int64_t beams = to_integer(width, "width", 1);
  CtcScore callback;
  if (!score.is_none()) {
    if (PyCallable_Check(score.ptr()) == 0) {
      throw py::type_error("score: expected a callable of prefix and next label, or None, got " + type_of(score));
    }
    callback = [&score](const std::int32_t* prefix, std::int64_t length, std::int32_t next) {
      py::tuple labels(static_cast<std::size_t>(length));
      for (std::int64_t k = 0; k < length; ++k) labels[static_cast<std::size_t>(k)] = py::int_(prefix[k]);
      const double value = to_number(score(labels, next), "score: its result");
      if (std::isnan(value) || value == std::numeric_limits<double>::infinity()) {
        throw py::value_error("score: its result: expected a log probability, got " + std::to_string(value));
      }
      return std::max(value, -1e300);  // minus infinity forbids
    };
  }
  const auto search = [&] {
    const ReleaseGil release(!callback);
    return ctc_beam(batch.dtype, batch.view(), blank_label, beams, callback);
  };
  py::list result;
  for (const std::vector<CtcHypothesis>& hypotheses : search()) {
    py::list of_one;
    for (const CtcHypothesis& hypothesis : hypotheses) {
      of_one.append(py::make_tuple(
          py::array_t<std::int32_t>(static_cast<py::ssize_t>(hypothesis.labels.size()), hypothesis.labels.data()),
          hypothesis.score));
    }
    result.append(of_one);
  }
  return result;
}

}  // namespace

void register_ctc(py::module_& module) {
  module.def("ctc_loss", &loss, py::arg("logits"), py::arg("labels"), py::arg("counts"), py::arg("blank") = 0,
             py::arg("lengths") = py::none(), py::arg("weights") = py::none(), py::arg("gradient") = true,
             py::arg("n_threads") = py::none(),
             R"(ctc_loss(logits, labels, counts, blank=0, lengths=None, weights=None, gradient=True, n_threads=None)
--

Loss of connectionist temporal classification (Graves et al. 2006) and its gradient.

Parameters
----------
logits : ndarray (N, T, K), or list of ndarrays (T_i, K)
    Before the softmax. NaN gives NaN.
labels : integers 0 … K−1 other than blank
    Of all sequences, one after the other.
counts : (N,) integers >= 0
    Labels of each sequence.
blank : int
lengths : (N,) integers, optional
    Steps in use.
weights : (N,) numbers >= 0, optional
gradient : bool
n_threads : int, optional
    Upper bound; the result does not depend on it.

Returns
-------
losses : ndarray (N,) of float64
    −log p(labels), weighted.
gradient : ndarray or list of ndarrays in the logits' form, or None
    Of the sum of losses, zero past a sequence's length.

Raises
------
ValueError, TypeError
    Shapes or labels that do not fit, and labels that need more steps than their sequence has.
)");
  module.def("ctc_greedy", &greedy, py::arg("logits"), py::arg("blank") = 0, py::arg("lengths") = py::none(),
             R"(ctc_greedy(logits, blank=0, lengths=None)
--

The most probable output of each step, repeats merged and blanks dropped: a list of N int32 arrays.

Arguments as for ctc_loss.
)");
  module.def("ctc_beam", &beam, py::arg("logits"), py::arg("blank") = 0, py::arg("width") = 16,
             py::arg("score") = py::none(), py::arg("lengths") = py::none(),
             R"(ctc_beam(logits, blank=0, width=16, score=None, lengths=None)
--

Prefix beam search (Hannun et al. 2014).

Parameters
----------
logits, blank, lengths
    As for ctc_loss.
width : int
    Label sequences that are followed at a time.
score : callable, optional
    score(prefix, label): log score to add where label follows the tuple prefix; minus infinity forbids. Called once for
    each prefix met.

Returns
-------
list of N lists of (labels, score)
    At most width, the best first: int32 arrays, and log p(labels) over the alignments that were followed, callback's part
    added. Empty where logits are not numbers.

Raises
------
ValueError, TypeError
    Arguments that do not fit; what the callback raises.
)");
}

}  // namespace lstmcore::bindings
