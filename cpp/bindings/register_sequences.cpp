// Sequences: data converted and checked once, for all epochs of a fit.
#include "objects.hpp"
#include "register.hpp"

namespace lstmcore::bindings {
namespace {

/// Positions that an index array names: integers counted from either end, or one bool for each sequence.
std::vector<std::size_t> positions(py::handle indices, std::int64_t count) {
  const Where where{"indices"};
  py::array array = read_numbers(indices, where, "integers");
  if (array.ndim() == 1 && array.dtype().kind() == 'b') {
    if (array.shape(0) != count) {
      throw py::value_error("indices: expected a mask of shape " + shape_text({count}) + ", got " + shape_text(array));
    }
    array = py::array(array.attr("nonzero")().cast<py::tuple>()[0]);
  }
  if (array.size() == 0) throw py::value_error("indices: empty; a subset needs at least one sequence");
  const auto values = to_integers(array, where, -1);
  std::vector<std::size_t> result;
  result.reserve(static_cast<std::size_t>(values.size()));
  for (py::ssize_t i = 0; i < values.size(); ++i) {
    const std::int64_t position = values.data()[i] < 0 ? values.data()[i] + count : values.data()[i];
    if (position < 0 || position >= count) {
      throw py::index_error("indices[" + std::to_string(i) + "]: " + std::to_string(values.data()[i]) +
                            " is out of range for " + std::to_string(count) + " sequences");
    }
    result.push_back(static_cast<std::size_t>(position));
  }
  return result;
}

std::unique_ptr<Batch> subset(const Batch& batch, py::handle indices) {
  auto result = std::make_unique<Batch>();
  result->features = batch.features;
  result->listed = batch.listed;
  result->dtype = batch.dtype;
  for (const std::size_t n : positions(indices, batch.count())) {
    result->data.push_back(batch.data[n]);
    result->lengths.push_back(batch.lengths[n]);
    result->extents.push_back(batch.extents[n]);
    if (batch.listed) result->arrays.push_back(batch.arrays[n]);
  }
  if (!batch.listed) result->arrays = batch.arrays;
  return result;
}

}  // namespace

void register_sequences(py::module_& module) {
  py::class_<Batch> type(module, "Sequences", py::is_final(),
                         R"(Sequences(data, lengths=None, dtype='float32')
--

N sequences of one dtype, checked, contiguous and kept alive.

Data of this dtype that is C-contiguous already is not copied: the object shares the caller's memory, so that later changes
of the array show. Anything else is converted once. Values are not looked at: NaN and inf pass.

Parameters
----------
data : ndarray (N, T, features), or list or tuple of ndarrays (T_i, features)
    Real numbers of any type.
lengths : (N,) integers, optional
    Steps in use of each sequence, 1 … T (or T_i). All of them by default.
dtype : {'float32', 'float64'}

Raises
------
ValueError
    Wrong shape, no sequences, an empty sequence, a length that does not fit.
TypeError
    data is not numeric (complex, object, str) or is a masked array.
)");
  type.def(py::init([](py::handle data, py::handle lengths, py::handle dtype) {
             return std::make_unique<Batch>(read_batch(data, lengths, to_dtype(dtype, "dtype"), {"data"}));
           }),
           py::arg("data"), py::arg("lengths") = py::none(), py::arg("dtype") = "float32");
  type.def("__len__", &Batch::count);
  type.def("__repr__", [](const Batch& batch) {
    return "Sequences(N=" + std::to_string(batch.count()) + ", features=" + std::to_string(batch.features) +
           ", dtype='" + dtype_name(batch.dtype) + "')";
  });
  type.def_property_readonly(
      "lengths",
      [](const Batch& batch) {
        return py::array_t<std::int64_t>(static_cast<py::ssize_t>(batch.lengths.size()), batch.lengths.data());
      },
      "Steps of each sequence: (N,) int64, a copy.");
  type.def_property_readonly("features", [](const Batch& batch) { return batch.features; }, "Numbers a step.");
  type.def_property_readonly("dtype", [](const Batch& batch) { return numpy_dtype(batch.dtype); }, "Element type.");
  type.def("subset", &subset, py::arg("indices"),
           R"(subset(self, indices)
--

The named sequences, sharing memory; repeats are allowed.

Parameters
----------
indices : (M,) integers in -N … N-1, or (N,) bool

Raises
------
IndexError
    An index out of range.
ValueError
    No index at all, or a mask of another length.
)");
  refuse_pickling(type, "it borrows memory; pickle the arrays it was made of");
}

}  // namespace lstmcore::bindings
