// Files of named arrays and texts.
#include "objects.hpp"
#include "register.hpp"

#include <lstmcore/tensor_file.hpp>

#include <cstring>
#include <utility>

namespace lstmcore::bindings {
namespace {

void write(py::handle path, py::handle tensors, py::handle metadata) {
  const std::string file = to_path(path, "path");
  const Texts texts = to_texts(metadata, "metadata");
  std::vector<TensorView> views;
  std::vector<py::array> arrays;
  for (const auto& item : to_dict(tensors, "tensors")) {
    const std::string name = to_text(item.first, "tensors key");
    const std::string where = entry_name("tensors", name);
    if (!py::isinstance<py::array>(item.second)) {
      throw py::type_error(where + ": expected an ndarray, got " + type_of(item.second));
    }
    const auto given = py::reinterpret_borrow<py::array>(item.second);
    TensorView view;
    view.name = name;
    if (given.dtype().equal(numpy_dtype(Dtype::float64))) {
      view.dtype = Dtype::float64;
    } else if (!given.dtype().equal(numpy_dtype(Dtype::float32))) {
      throw py::type_error(where + ": expected dtype float32 or float64, got " +
                           py::str(given.dtype()).cast<std::string>());
    }
    if (given.size() == 0) throw py::value_error(where + ": empty, shape " + shape_text(given));
    const py::array array = to_array(given, view.dtype, {"tensors", -1, name.c_str()});
    view.shape.assign(array.shape(), array.shape() + array.ndim());
    view.data = array.data();
    views.push_back(std::move(view));
    arrays.push_back(array);
  }
  try {
    const ReleaseGil release;
    write_tensors(file, views, texts);
  } catch (const ModelFileError&) {
    require_writable(file, path);
    throw;
  }
}

/// What the file is read by; the GIL is free meanwhile, and a missing file is an OSError.
template <class Read>
auto read_with(const Read& read, py::handle path) {
  const std::string file = to_path(path, "path");
  try {
    const ReleaseGil release;
    return read(file);
  } catch (const ModelFileError&) {
    require_readable(file, path);
    throw;
  }
}

py::tuple read(py::handle path) {
  const TensorFile file = read_with(&read_tensors, path);
  py::dict tensors;
  for (const TensorFile::Tensor& tensor : file.tensors) {
    py::array array(numpy_dtype(tensor.dtype), py::array::ShapeContainer(tensor.shape.begin(), tensor.shape.end()));
    std::memcpy(array.mutable_data(), tensor.data.data(), tensor.data.size());
    tensors[py::str(tensor.name)] = std::move(array);
  }
  return py::make_tuple(std::move(tensors), texts_object(file.metadata));
}

}  // namespace

void register_tensors(py::module_& module) {
  module.def("write_tensors", &write, py::arg("path"), py::arg("tensors"), py::arg("metadata"),
             R"(write_tensors(path, tensors, metadata)
--

Writes named arrays and texts to one safetensors file, atomically: the file is either the old one or the whole new one.

Parameters
----------
path : str or os.PathLike
tensors : dict of str to ndarray
    float32 or float64, finite, not empty.
metadata : dict of str to str
    'format', 'format_version', 'lstmcore_version' and 'checksum' are the file's own.

Raises
------
OSError
    The folder does not exist or cannot be written to.
ModelFileError
    An array holds a value that is not finite, or writing failed.
ValueError, TypeError
    A name, an array or a text that the file cannot hold.
)");
  module.def("read_tensors", &read, py::arg("path"),
             R"(read_tensors(path)
--

Reads a file of write_tensors(), which is treated as hostile.

Returns
-------
tensors : dict of str to ndarray
    New arrays, in the order of the file.
metadata : dict of str to str
    Without the file's own entries.

Raises
------
ModelFileError
    Damaged, inconsistent, or not a file of write_tensors().
OSError
    The file cannot be read.
)");
  module.def(
      "read_metadata", [](py::handle path) { return texts_object(read_with(&read_metadata, path)); }, py::arg("path"),
      R"(read_metadata(path)
--

Metadata of any safetensors file, 'format' and the like included; tensors and checksum are not looked at.

Raises
------
ModelFileError
    The header is damaged, or it is no safetensors file.
OSError
    The file cannot be read.
)");
}

}  // namespace lstmcore::bindings
