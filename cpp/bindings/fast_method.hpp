// Methods that streams call for every sample. pybind11 looks up types and overloads at each call, which costs as much
// as a step of a small network; here a plain C function comes first, which takes arguments that need no conversion and
// leaves all others, and all errors, to the full method.
#pragma once

#include "arrays.hpp"

namespace lstmcore::bindings {

/// The result for a call with these arguments by position; null where the full method has to look at them.
using FastCall = PyObject* (*)(PyObject* self, PyObject* const* arguments);

/// A method of kCount arguments, all of them given by position. kCall may throw as long as it has changed nothing: the
/// full method then runs into the same, and says so.
template <FastCall kCall, Py_ssize_t kCount>
class FastMethod {
 public:
  /// Puts itself before the method `name` of a type. doc: with the text signature, in which self is "$self".
  static void install(py::handle type, const char* name, const char* doc) {
    full_ = py::object(type.attr(name)).release().ptr();  // as long as the process, like the type
    definition_ = {name, reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&call)),
                   METH_FASTCALL | METH_KEYWORDS, doc};
    PyObject* method = PyDescr_NewMethod(reinterpret_cast<PyTypeObject*>(type.ptr()), &definition_);
    if (method == nullptr) throw py::error_already_set();
    type.attr(name) = py::reinterpret_steal<py::object>(method);
  }

 private:
  static PyObject* call(PyObject* self, PyObject* const* arguments, Py_ssize_t count, PyObject* names) {
    if (count == kCount && names == nullptr) {
      try {
        if (PyObject* result = kCall(self, arguments)) return result;
      } catch (...) {  // NOLINT(bugprone-empty-catch)
      }
    }
    const Py_ssize_t named = names == nullptr ? 0 : PyTuple_GET_SIZE(names);
    try {
      std::vector<PyObject*> all{self};
      all.insert(all.end(), arguments, arguments + count + named);
      return PyObject_Vectorcall(full_, all.data(), static_cast<std::size_t>(count) + 1, names);
    } catch (const std::bad_alloc&) {
      return PyErr_NoMemory();
    }
  }

  inline static PyObject* full_ = nullptr;
  inline static PyMethodDef definition_{};
};

/// The C++ object of an instance of a registered type or of a Python subclass; null where finding it takes pybind11: in
/// an object without that __init__, or of several registered types.
template <class T>
T* plain_object(PyObject* self, PyTypeObject* type) noexcept {
  if (PyObject_TypeCheck(self, type) == 0) return nullptr;
  auto* instance = reinterpret_cast<py::detail::instance*>(self);
  if (!instance->simple_layout) return nullptr;
  const auto holder = instance->get_value_and_holder();
  return holder.holder_constructed() ? holder.value_ptr<T>() : nullptr;
}

/// Data of an array that needs no conversion and has this shape, whose first extent may be any where it is < 0; else
/// null. dtype: the built-in one.
inline const void* ready_data(PyObject* value, const py::dtype& dtype, std::initializer_list<std::int64_t> shape) {
  constexpr int kReady = py::array::c_style | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
  if (Py_TYPE(value) != py::detail::npy_api::get().PyArray_Type_) return nullptr;
  const auto* array = py::detail::array_proxy(value);
  if (array->descr != dtype.ptr() || (array->flags & kReady) != kReady) return nullptr;
  if (array->nd != static_cast<int>(shape.size())) return nullptr;
  const auto* extent = array->dimensions;
  for (const std::int64_t expected : shape) {
    if (*extent != expected && !(expected < 0 && extent == array->dimensions && *extent > 0)) return nullptr;
    ++extent;
  }
  return array->data;
}

}  // namespace lstmcore::bindings
