// States of layers as Python has them: dictionaries of arrays, one per state of the cell.
#pragma once

#include "objects.hpp"

#include <cstring>

namespace lstmcore::bindings {

/// States that came as an argument: they are only read.
struct GivenStates {
  std::vector<py::object> arrays;
  std::vector<const void*> data;

  const void* const* pointers() const noexcept { return data.empty() ? nullptr : data.data(); }
};

/// convert(s, value): state s as an array of the right type and shape.
template <class Convert>
GivenStates read_states(const std::vector<py::str>& keys, const std::vector<std::string>& names, py::handle state,
                        const char* argument, Convert&& convert) {
  GivenStates result;
  if (state.is_none()) return result;
  if (!PyDict_Check(state.ptr())) {
    throw py::type_error(std::string(argument) + ": expected a dict of arrays or None, got " + type_of(state));
  }
  // All values are owned before one is converted: conversion may run Python code, which could empty the dict.
  result.arrays.reserve(names.size());
  for (const py::str& key : keys) {
    const py::handle value = PyDict_GetItemWithError(state.ptr(), key.ptr());
    if (value) result.arrays.push_back(py::reinterpret_borrow<py::object>(value));
  }
  if (PyErr_Occurred() != nullptr) throw py::error_already_set();
  // Exactly the cell's names, so that a misspelt one is not taken for zeros.
  if (result.arrays.size() != names.size() || PyDict_Size(state.ptr()) != static_cast<py::ssize_t>(names.size())) {
    throw py::value_error(std::string(argument) + ": expected exactly the keys " + repr_of(text_tuple(names)) +
                          ", got " + repr_of(py::tuple(py::reinterpret_borrow<py::dict>(state).attr("keys")())));
  }
  result.data.reserve(names.size());
  for (std::size_t s = 0; s < names.size(); ++s) {
    py::array array = convert(s, result.arrays[s]);
    result.data.push_back(array.data());
    result.arrays[s] = std::move(array);
  }
  return result;
}

/// States that are a result.
struct NewStates {
  py::dict value;
  std::vector<void*> data;
  std::vector<std::size_t> bytes;  ///< of each array

  void clear() const noexcept {
    for (std::size_t s = 0; s < data.size(); ++s) std::memset(data[s], 0, bytes[s]);
  }
  void copy(const GivenStates& given) const noexcept {
    for (std::size_t s = 0; s < data.size(); ++s) std::memcpy(data[s], given.data[s], bytes[s]);
  }
};

/// make(s): a new array for state s.
template <class Make>
NewStates new_states(const std::vector<py::str>& keys, Make&& make) {
  NewStates result;
  result.data.reserve(keys.size());
  for (std::size_t s = 0; s < keys.size(); ++s) {
    py::array array = make(s);
    result.data.push_back(array.mutable_data());
    result.bytes.push_back(static_cast<std::size_t>(array.nbytes()));
    if (PyDict_SetItem(result.value.ptr(), keys[s].ptr(), array.ptr()) != 0) throw py::error_already_set();
  }
  return result;
}

}  // namespace lstmcore::bindings
