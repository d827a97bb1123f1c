// What the library is: version, engines, cells; and how its exceptions look in Python.
#include "register.hpp"
#include "values.hpp"

#include <lstmcore/build_info.hpp>

#include <system_error>

#ifndef LSTMCORE_VERSION
#error "LSTMCORE_VERSION (a string) is the project's version; the build defines it"
#endif

namespace lstmcore::bindings {
namespace {

py::dict build_info_object() {
  const BuildInfo info = build_info();
  py::dict result;
  result["version"] = info.version;
  result["isa"] = info.isa;
  result["isas_built"] = text_tuple(info.isas_built);
  result["isas_usable"] = text_tuple(info.isas_usable);
  result["openmp"] = info.openmp;
  result["cuda"] = info.cuda;
  result["eigen_version"] = info.eigen_version;
  result["compiler"] = info.compiler;
  return result;
}

py::dict cells_object() {
  py::dict result;
  for (const CellInfo& cell : cells()) {
    py::dict options;
    for (const auto& [name, option] : cell.options) {
      if (!option.letters.empty()) {
        options[py::str(name)] = "text of the letters " + option.letters;
        continue;
      }
      if (option.allowed.empty()) {
        options[py::str(name)] = "integer, at least " + std::to_string(option.lowest);
        continue;
      }
      py::tuple allowed(option.allowed.size());
      for (std::size_t i = 0; i < option.allowed.size(); ++i) {
        allowed[i] = std::visit([](const auto& value) -> py::object { return py::cast(value); }, option.allowed[i]);
      }
      options[py::str(name)] = allowed;
    }
    py::dict entry;
    entry["gates"] = text_tuple(cell.gates);
    entry["states"] = text_tuple(cell.states);
    entry["options"] = options;
    entry["source"] = cell.source;
    result[py::str(cell.name)] = entry;
  }
  return result;
}

/// std::invalid_argument, bad_alloc and their like are pybind11's own business.
// NOLINTNEXTLINE(performance-unnecessary-value-param): the signature is pybind11's
void translate(std::exception_ptr pending) {
  try {
    if (pending) std::rethrow_exception(pending);
  } catch (const Interrupted& error) {
    PyErr_SetString(PyExc_KeyboardInterrupt, error.what());
  } catch (const std::system_error& error) {
    // OSError picks the subclass (FileNotFoundError, PermissionError …) by the number.
    const py::tuple arguments = py::make_tuple(error.code().value(), error.what());
    PyErr_SetObject(PyExc_OSError, arguments.ptr());
  }
}

}  // namespace

void register_info(py::module_& module) {
  module.attr("__version__") = LSTMCORE_VERSION;

  py::register_local_exception_translator(&translate);
  auto model_file_error = py::register_local_exception<ModelFileError>(module, "ModelFileError", PyExc_ValueError);
  model_file_error.attr("__module__") = "lstmcore";
  model_file_error.doc() =
      "A file that is truncated, inconsistent, or not an lstmcore model.\n\nThe message says what was found where.";

  module.def("build_info", &build_info_object,
             R"(build_info()
--

What this library was built with and which engine it runs.

Returns
-------
dict
    version (str), isa (str, the instruction set in use), isas_built and isas_usable (tuples of str: engines beside this
    library, and those of them that this machine can run), openmp (bool), cuda (bool), eigen_version (str), compiler (str).

Raises
------
RuntimeError
    The environment variable LSTMCORE_ISA names an engine that does not exist or cannot run here.
)");
  module.def("cells", &cells_object,
             R"(cells()
--

Every cell that the library has.

Returns
-------
dict
    name -> dict(gates=names in row order, states=names, options=dict of option -> allowed values with the default first,
    source=author and year).
)");
}

}  // namespace lstmcore::bindings
