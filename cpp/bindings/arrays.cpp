#include "objects.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

namespace lstmcore::bindings {
namespace {

constexpr auto kReadyFlags =
    static_cast<unsigned>(py::array::c_style) | static_cast<unsigned>(py::detail::npy_api::NPY_ARRAY_ALIGNED_);

bool is_plain_array(py::handle value) { return Py_TYPE(value.ptr()) == py::detail::npy_api::get().PyArray_Type_; }

/// Usable in place. Built-in dtypes are singletons, so that identity tells nearly every array of the right type; the
/// few others (unpickled ones, say) take the way through NumPy, which returns them as they are.
bool is_ready(py::handle value, const py::dtype& dtype) {
  if (!is_plain_array(value)) return false;
  const auto array = py::reinterpret_borrow<py::array>(value);
  return array.dtype().is(dtype) && (static_cast<unsigned>(array.flags()) & kReadyFlags) == kReadyFlags;
}

py::array require(const py::array& array, const py::dtype& dtype) {
  static constexpr const char* kRequirements = "CA";  // C-contiguous, aligned
  return py::module_::import("numpy").attr("require")(array, dtype, kRequirements);
}

std::string expected_got(const std::string& name, const std::string& expected, const py::array& array) {
  return name + ": expected " + expected + ", got " + shape_text(array);
}

std::int64_t extent(const py::array& array, py::ssize_t axis) { return static_cast<std::int64_t>(array.shape(axis)); }

/// axes names the shape in the message, e.g. "(L*D, N, H)".
void check_shape(const py::array& array, const Where& where, std::initializer_list<std::int64_t> shape,
                 const char* axes) {
  bool same = array.ndim() == static_cast<py::ssize_t>(shape.size());
  py::ssize_t axis = 0;
  for (const std::int64_t length : shape) same = same && extent(array, axis++) == length;
  if (!same) {
    throw py::value_error(expected_got(where.text(), std::string(axes) + " = " + shape_text(shape), array));
  }
}

void check_integers(const py::array& array, const Where& where) {
  const char kind = array.dtype().kind();
  if (kind != 'i' && kind != 'u') {
    throw py::value_error(where.text() + ": expected integers, got dtype " +
                          py::str(array.dtype()).cast<std::string>());
  }
}

/// What a list beside a batch that came as one holds for each sequence; items and shape: how errors call them.
py::tuple items_of(py::handle value, const Batch& batch, const char* name, const char* items,
                   const std::string& shape) {
  if (!PyList_Check(value.ptr()) && !PyTuple_Check(value.ptr())) {
    throw py::type_error(std::string(name) + ": x was a list of sequences, so expected a list of " +
                         std::to_string(batch.count()) + " " + items + shape + ", got " + type_of(value));
  }
  auto found = py::reinterpret_steal<py::tuple>(PySequence_Tuple(value.ptr()));
  if (!found) throw py::error_already_set();
  if (found.size() != batch.data.size()) {
    throw py::value_error(std::string(name) + ": expected " + std::to_string(batch.count()) + " " + items + ", got " +
                          std::to_string(found.size()));
  }
  return found;
}

std::string feature_note(const BatchRules& rules) {
  return std::string(": ") + rules.feature_source + " is " + std::to_string(rules.features);
}

void read_lengths(py::handle lengths, Batch& batch, const BatchRules& rules) {
  if (lengths.is_none()) {
    batch.lengths = batch.extents;
    return;
  }
  const auto values = to_integers(lengths, {"lengths"}, batch.count());
  const std::int64_t* length = values.data();
  batch.lengths.assign(length, length + batch.count());
  for (std::size_t n = 0; n < batch.lengths.size(); ++n) {
    if (batch.lengths[n] >= 1 && batch.lengths[n] <= batch.extents[n]) continue;
    throw py::value_error("lengths[" + std::to_string(n) + "]: expected 1 … " + std::to_string(batch.extents[n]) +
                          " (the steps that " + rules.name + " has), got " + std::to_string(batch.lengths[n]));
  }
}

Batch read_dense(py::handle x, Dtype dtype, const BatchRules& rules) {
  if (py::isinstance<py::array>(x) && py::reinterpret_borrow<py::array>(x).dtype().kind() == 'O') {
    throw py::type_error(std::string(rules.name) +
                         ": expected real numbers, got dtype object; sequences of different lengths come as a list of "
                         "(T_i, I) arrays");
  }
  const py::array given = read_numbers(x, {rules.name});
  const std::string expected =
      "(N, T, " + (rules.features > 0 ? std::to_string(rules.features) : std::string("I")) + ")";
  if (given.ndim() != 3) {
    throw py::value_error(expected_got(rules.name, expected, given) +
                          (given.ndim() == 2 ? "; one sequence alone is x[None]" : ""));
  }
  if (rules.features > 0 && extent(given, 2) != rules.features) {
    throw py::value_error(expected_got(rules.name, expected, given) + feature_note(rules));
  }
  if (given.size() == 0)
    throw py::value_error(std::string(rules.name) + ": empty, shape " + shape_text(given) +
                          "; every axis needs 1 or more");

  Batch batch;
  const py::array array = to_array(given, dtype, {rules.name});
  const std::int64_t count = extent(array, 0);
  const std::int64_t steps = extent(array, 1);
  batch.features = extent(array, 2);
  batch.dtype = dtype;
  batch.data.resize(static_cast<std::size_t>(count));
  const auto* first = static_cast<const char*>(array.data());
  const std::size_t stride = static_cast<std::size_t>(steps * batch.features) * size_of(dtype);
  for (std::size_t n = 0; n < batch.data.size(); ++n) batch.data[n] = first + n * stride;
  batch.extents.assign(batch.data.size(), steps);
  batch.arrays.push_back(array);
  return batch;
}

Batch read_list(py::handle x, Dtype dtype, const BatchRules& rules) {
  // A tuple of its own: converting an element may run Python code, which could change a list.
  const auto items = py::reinterpret_steal<py::tuple>(PySequence_Tuple(x.ptr()));
  if (!items) throw py::error_already_set();
  const std::size_t count = items.size();
  if (count == 0) throw py::value_error(std::string(rules.name) + ": empty list; expected at least one (T, I) array");

  Batch batch;
  batch.listed = true;
  batch.dtype = dtype;
  batch.features = rules.features;
  batch.arrays.reserve(count);
  batch.data.reserve(count);
  batch.extents.reserve(count);
  for (std::size_t n = 0; n < count; ++n) {
    const Where where{rules.name, static_cast<std::int64_t>(n)};
    const py::array given = read_numbers(items[n], where);
    const std::string expected = "(T, " + (batch.features > 0 ? std::to_string(batch.features) : "I") + ")";
    if (given.ndim() != 2) throw py::value_error(expected_got(where.text(), expected, given));
    if (batch.features > 0 && extent(given, 1) != batch.features) {
      const std::string why = rules.features > 0 ? feature_note(rules) : std::string(": as ") + rules.name + "[0] has";
      throw py::value_error(expected_got(where.text(), expected, given) + why);
    }
    if (given.size() == 0) {
      throw py::value_error(where.text() + ": empty sequence, shape " + shape_text(given) +
                            "; every sequence needs at least one step of one feature");
    }
    const py::array array = to_array(given, dtype, where);
    batch.features = extent(array, 1);
    batch.extents.push_back(extent(array, 0));
    batch.data.push_back(array.data());
    batch.arrays.push_back(array);
  }
  return batch;
}

/// Zeroes what lies past a sequence's length.
void clear_tail(void* first, std::int64_t length, std::int64_t extent, std::int64_t width, Dtype dtype) {
  if (length == extent) return;
  const std::size_t row = static_cast<std::size_t>(width) * size_of(dtype);
  std::memset(static_cast<char*>(first) + static_cast<std::size_t>(length) * row, 0,
              static_cast<std::size_t>(extent - length) * row);
}

std::vector<void*> rows_of(void* first, const Batch& batch, std::int64_t width) {
  std::vector<void*> rows(batch.data.size());
  const std::size_t stride = static_cast<std::size_t>(batch.extents.front() * width) * size_of(batch.dtype);
  for (std::size_t n = 0; n < rows.size(); ++n) rows[n] = static_cast<char*>(first) + n * stride;
  return rows;
}

}  // namespace

std::string Where::text() const {
  std::string result = argument;
  if (index >= 0) result += "[" + std::to_string(index) + "]";
  if (key != nullptr) result += "['" + std::string(key) + "']";
  return result;
}

py::dtype numpy_dtype(Dtype dtype) {
  return dtype == Dtype::float32 ? py::dtype::of<float>() : py::dtype::of<double>();
}

const char* dtype_name(Dtype dtype) noexcept { return dtype == Dtype::float32 ? "float32" : "float64"; }

Dtype to_dtype(py::handle value, const std::string& name) {
  const std::string expected = name + ": expected 'float32' or 'float64', got ";
  if (value.is_none()) throw py::value_error(expected + "None");
  py::dtype dtype;
  try {
    dtype = py::dtype::from_args(py::reinterpret_borrow<py::object>(value));
  } catch (py::error_already_set& error) {
    py::raise_from(error, PyExc_ValueError, (expected + repr_of(value)).c_str());
    throw py::error_already_set();
  }
  if (dtype.equal(numpy_dtype(Dtype::float32))) return Dtype::float32;
  if (dtype.equal(numpy_dtype(Dtype::float64))) return Dtype::float64;
  throw py::value_error(expected + repr_of(value));
}

std::string shape_text(const py::array& array) { return py::str(array.attr("shape")).cast<std::string>(); }

std::string shape_text(std::initializer_list<std::int64_t> shape) {
  std::string text = "(";
  for (const std::int64_t extent : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(extent);
  return text + (shape.size() == 1 ? ",)" : ")");
}

py::array read_numbers(py::handle value, const Where& where, const char* expected) {
  py::array array;
  if (py::isinstance<py::array>(value)) {
    // np.ma arrays would lose their mask without a word.
    if (!is_plain_array(value) && py::hasattr(value, "_mask")) {
      throw py::type_error(where.text() +
                           ": masked arrays are not supported; fill the gaps, or pass lengths where a tail is masked");
    }
    array = py::reinterpret_borrow<py::array>(value);
  } else {
    if (value.is_none() || py::isinstance<py::str>(value) || py::isinstance<py::bytes>(value)) {
      throw py::type_error(where.text() + ": expected an array of " + expected + ", got " + type_of(value));
    }
    try {
      array = py::module_::import("numpy").attr("asarray")(value);
    } catch (py::error_already_set& error) {
      const bool is_value = error.matches(PyExc_ValueError);
      if (!is_value && !error.matches(PyExc_TypeError) && !error.matches(PyExc_RuntimeError)) throw;
      const std::string message = where.text() + ": " + type_of(value) + " cannot be read as an array";
      py::raise_from(error, is_value ? PyExc_ValueError : PyExc_TypeError, message.c_str());
      throw py::error_already_set();
    }
  }
  const char kind = array.dtype().kind();
  if (kind != 'f' && kind != 'i' && kind != 'u' && kind != 'b') {
    throw py::type_error(where.text() + ": expected " + expected + ", got dtype " +
                         py::str(array.dtype()).cast<std::string>());
  }
  return array;
}

py::array to_array(py::handle value, Dtype dtype, const Where& where) {
  const py::dtype wanted = numpy_dtype(dtype);
  if (is_ready(value, wanted)) return py::reinterpret_borrow<py::array>(value);
  return require(read_numbers(value, where), wanted);
}

py::array to_array(py::handle value, Dtype dtype, const Where& where, std::initializer_list<std::int64_t> shape,
                   const char* axes) {
  py::array array = to_array(value, dtype, where);
  check_shape(array, where, shape, axes);
  return array;
}

py::array_t<std::int64_t> to_integers(py::handle value, const Where& where, std::int64_t count) {
  const py::array array = read_numbers(value, where, "integers");
  if (array.ndim() != 1 || (count >= 0 && extent(array, 0) != count)) {
    const std::string expected = count < 0 ? "(N,)" : shape_text({count});
    throw py::value_error(expected_got(where.text(), expected, array));
  }
  check_integers(array, where);
  return require(array, py::dtype::of<std::int64_t>());
}

std::vector<double> to_doubles(py::handle value, const Where& where, std::int64_t count) {
  const py::array array = to_array(value, Dtype::float64, where, {count}, "shape");
  const auto* first = static_cast<const double*>(array.data());
  return {first, first + count};
}

py::array doubles_object(const std::vector<double>& values) {
  return py::array_t<double>(static_cast<py::ssize_t>(values.size()), values.data());
}

py::array new_array(Dtype dtype, std::initializer_list<std::int64_t> shape) {
  // NumPy's own call in place of py::array's constructor, which computes strides and allocates for them: half the cost
  // of the small arrays that step() returns.
  std::array<Py_intptr_t, 5> extents{};
  std::copy(shape.begin(), shape.end(), extents.begin());
  const auto& api = py::detail::npy_api::get();
  PyObject* array =
      api.PyArray_NewFromDescr_(api.PyArray_Type_, numpy_dtype(dtype).release().ptr(), static_cast<int>(shape.size()),
                                extents.data(), nullptr, nullptr, 0, nullptr);
  if (array == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::array>(array);
}

std::vector<py::str> interned(const std::vector<std::string>& names) {
  std::vector<py::str> result;
  result.reserve(names.size());
  for (const std::string& name : names) {
    PyObject* text = PyUnicode_InternFromString(name.c_str());
    if (text == nullptr) throw py::error_already_set();
    result.push_back(py::reinterpret_steal<py::str>(text));
  }
  return result;
}

std::vector<py::str> interned_tensor_names(const std::vector<TensorInfo>& tensors) {
  std::vector<std::string> names;
  names.reserve(tensors.size());
  for (const TensorInfo& tensor : tensors) names.push_back(tensor.name);
  return interned(names);
}

py::dict tensor_views(const std::vector<TensorInfo>& tensors, const std::vector<py::str>& names, void* buffer,
                      Dtype dtype, const py::object& owner) {
  py::dict result;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    auto* first = static_cast<char*>(buffer) + static_cast<std::size_t>(tensors[i].offset) * size_of(dtype);
    result[names[i]] = py::array(
        numpy_dtype(dtype), py::array::ShapeContainer(tensors[i].shape.begin(), tensors[i].shape.end()), first, owner);
  }
  return result;
}

Batch read_batch(py::handle x, py::handle lengths, Dtype dtype, const BatchRules& rules) {
  if (!is_plain_array(x) && py::isinstance<Batch>(x)) {
    const auto& batch = x.cast<const Batch&>();
    if (!lengths.is_none())
      throw py::value_error("lengths: " + std::string(rules.name) + " is a Sequences, which has its own");
    if (batch.dtype != dtype) {
      throw py::type_error(std::string(rules.name) + ": Sequences of " + dtype_name(batch.dtype) + ", expected " +
                           dtype_name(dtype) + "; build it with dtype='" + dtype_name(dtype) + "'");
    }
    if (rules.features > 0 && batch.features != rules.features) {
      throw py::value_error(std::string(rules.name) + ": expected " + std::to_string(rules.features) +
                            " features, got " + std::to_string(batch.features) + feature_note(rules));
    }
    return batch;
  }
  const bool listed = PyList_Check(x.ptr()) || PyTuple_Check(x.ptr());
  Batch batch = listed ? read_list(x, dtype, rules) : read_dense(x, dtype, rules);
  read_lengths(lengths, batch, rules);
  return batch;
}

Codes::Codes(py::handle value, const Batch& batch, const char* name) {
  if (value.is_none()) return;
  if (!batch.listed) {
    const std::int64_t steps = batch.extents.front();
    add(value, {name}, {batch.count(), steps}, "(N, T)");
    const std::int32_t* first = arrays_.front().data();
    for (std::int64_t n = 0; n < batch.count(); ++n) data_.push_back(first + n * steps);
    return;
  }
  const py::tuple items = items_of(value, batch, name, "vectors", " (T_i,)");
  for (std::size_t n = 0; n < batch.data.size(); ++n) {
    add(items[n], {name, static_cast<std::int64_t>(n)}, {batch.extents[n]}, "(T,)");
    data_.push_back(arrays_.back().data());
  }
}

void Codes::add(py::handle value, const Where& where, std::initializer_list<std::int64_t> shape, const char* axes) {
  const py::array array = read_numbers(value, where, "integers");
  check_shape(array, where, shape, axes);
  check_integers(array, where);
  const bool narrow = array.dtype().kind() == 'i' && array.itemsize() <= 4;
  if (!narrow && array.size() > 0) {  // what does not fit would come out as another code
    const auto outside = array.attr("max")().cast<py::int_>();
    if (outside.attr("__gt__")(std::numeric_limits<std::int32_t>::max()).cast<bool>()) {
      throw py::value_error(where.text() + ": expected integers below 2^31, got " +
                            py::str(outside).cast<std::string>());
    }
  }
  arrays_.push_back(require(array, py::dtype::of<std::int32_t>()));
}

PerStep new_per_step(const Batch& batch, std::int64_t width) {
  PerStep result;
  if (batch.listed) {
    py::list items(batch.data.size());
    result.data.reserve(batch.data.size());
    for (std::size_t n = 0; n < batch.data.size(); ++n) {
      py::array item = new_array(batch.dtype, {batch.extents[n], width});
      result.data.push_back(item.mutable_data());
      items[n] = std::move(item);
    }
    result.value = std::move(items);
  } else {
    py::array array = new_array(batch.dtype, {batch.count(), batch.extents.front(), width});
    result.data = rows_of(array.mutable_data(), batch, width);
    result.value = std::move(array);
  }
  for (std::size_t n = 0; n < batch.data.size(); ++n) {
    clear_tail(result.data[n], batch.lengths[n], batch.extents[n], width, batch.dtype);
  }
  return result;
}

PerStep read_per_step(py::handle value, const Batch& batch, std::int64_t width, const char* name) {
  PerStep result;
  if (!batch.listed) {
    const py::array array =
        to_array(value, batch.dtype, {name}, {batch.count(), batch.extents.front(), width}, "(N, T, D*H)");
    // Only read from, whatever the pointer's type: the array may be read-only.
    result.data = rows_of(const_cast<void*>(array.data()), batch, width);
    result.value = array;
    return result;
  }
  const py::tuple items = items_of(value, batch, name, "arrays", " (T_i, " + std::to_string(width) + ")");
  py::list kept;
  for (std::size_t n = 0; n < batch.data.size(); ++n) {
    const Where where{name, static_cast<std::int64_t>(n)};
    const py::array array = to_array(items[n], batch.dtype, where, {batch.extents[n], width}, "(T, D*H)");
    result.data.push_back(const_cast<void*>(array.data()));
    kept.append(array);
  }
  result.value = std::move(kept);
  return result;
}

}  // namespace lstmcore::bindings
