// What array arguments may be, and the memory of array results.
//
// bool, integers, float16, float32 and float64 (and long double) are converted to the dtype in use; arrays that have it
// already, contiguous, aligned and in native byte order, are used in place. Complex numbers, objects, text and dates
// are refused. Whether values are finite is not looked at here: that costs a pass over the data and is the estimators'
// part.
#pragma once

#include "values.hpp"

#include <pybind11/numpy.h>

#include <initializer_list>

namespace lstmcore::bindings {

/// How an error message names an array: "x", "x[3]" or "state['h']".
struct Where {
  const char* argument;
  std::int64_t index = -1;
  const char* key = nullptr;
  std::string text() const;
};

py::dtype numpy_dtype(Dtype dtype);
/// "float32", "float64" or what NumPy takes for either.
Dtype to_dtype(py::handle value, const std::string& name);
const char* dtype_name(Dtype dtype) noexcept;

/// "(4, 7, 11)"
std::string shape_text(const py::array& array);
std::string shape_text(std::initializer_list<std::int64_t> shape);

/// Anything that NumPy reads as an array of real numbers; not converted yet. expected: how errors call them.
py::array read_numbers(py::handle value, const Where& where, const char* expected = "real numbers");
/// A C-contiguous, aligned, native array of this dtype; value itself where it is one.
py::array to_array(py::handle value, Dtype dtype, const Where& where);
/// The same with a shape that must match exactly; axes names them in the message, e.g. "(L*D, N, H)".
py::array to_array(py::handle value, Dtype dtype, const Where& where, std::initializer_list<std::int64_t> shape,
                   const char* axes);
/// Integers, as a C-contiguous int64 vector [count]; count < 0: any.
py::array_t<std::int64_t> to_integers(py::handle value, const Where& where, std::int64_t count);
/// A vector of finite or other doubles [count].
std::vector<double> to_doubles(py::handle value, const Where& where, std::int64_t count);
py::array doubles_object(const std::vector<double>& values);

/// Uninitialised, C-contiguous, of at most five axes.
py::array new_array(Dtype dtype, std::initializer_list<std::int64_t> shape);
/// Tensors of a flat buffer by name, as views that keep owner alive.
py::dict tensor_views(const std::vector<TensorInfo>& tensors, const std::vector<py::str>& names, void* buffer,
                      Dtype dtype, const py::object& owner);
std::vector<py::str> interned(const std::vector<std::string>& names);
std::vector<py::str> interned_tensor_names(const std::vector<TensorInfo>& tensors);

/// N checked sequences, their memory kept alive. Python sees it as `Sequences`.
struct Batch {
  std::vector<py::object> arrays;     ///< one (N, T, I) array, or N arrays (T_i, I)
  std::vector<const void*> data;      ///< first element of each sequence
  std::vector<std::int64_t> lengths;  ///< steps in use
  std::vector<std::int64_t> extents;  ///< steps that the array of each sequence has: T or T_i
  std::int64_t features = 0;
  bool listed = false;  ///< came as a list of arrays
  Dtype dtype = Dtype::float32;

  std::int64_t count() const noexcept { return static_cast<std::int64_t>(data.size()); }
  /// Borrows; valid while the batch is.
  Sequences view() const noexcept { return {data.data(), lengths.data(), count(), features}; }
};

/// A code for each step of a batch, in its form; null where none are given.
class Codes {
 public:
  Codes(py::handle value, const Batch& batch, const char* name);
  const std::int32_t* const* pointers() const noexcept { return data_.empty() ? nullptr : data_.data(); }

 private:
  void add(py::handle value, const Where& where, std::initializer_list<std::int64_t> shape, const char* axes);

  std::vector<py::array_t<std::int32_t>> arrays_;
  std::vector<const std::int32_t*> data_;
};

/// How read_batch()'s errors call things, and what it expects.
struct BatchRules {
  const char* name = "x";                     ///< of the argument
  std::int64_t features = 0;                  ///< what I must be; 0: any
  const char* feature_source = "input_size";  ///< what says so
};

/// x: (N, T, I) array, or list or tuple of (T_i, I) arrays, or Sequences; lengths: None or N integers, each at most the
/// steps there are.
Batch read_batch(py::handle x, py::handle lengths, Dtype dtype, const BatchRules& rules);

/// One array per sequence, or one for all, in the form that the batch came in.
struct PerStep {
  py::object value;         ///< (N, T, width) array or list of (T_i, width) arrays
  std::vector<void*> data;  ///< first element of each sequence
};

/// New memory for results; steps past a sequence's length are zero, the others uninitialised.
PerStep new_per_step(const Batch& batch, std::int64_t width);
/// An argument of the batch's form.
PerStep read_per_step(py::handle value, const Batch& batch, std::int64_t width, const char* name);

}  // namespace lstmcore::bindings
