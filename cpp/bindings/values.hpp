// Scalars, names and configurations that cross the border between Python and C++.
// Every reader takes the name of the argument, so that its error can say what was wrong with what.
#pragma once

#include <lstmcore/trainer.hpp>

#include <pybind11/pybind11.h>

#include <limits>
#include <map>
#include <string>

namespace lstmcore::bindings {

namespace py = pybind11;

/// repr() of a value, cut to a length that fits in an error message.
std::string repr_of(py::handle value);
/// Name of the value's type, e.g. "numpy.float32" without the module for builtins.
std::string type_of(py::handle value);

/// An int or NumPy integer in [low, high]; bool and float are refused, so that a swapped argument does not pass unseen.
std::int64_t to_integer(py::handle value, const std::string& name,
                        std::int64_t low = std::numeric_limits<std::int64_t>::min(),
                        std::int64_t high = std::numeric_limits<std::int64_t>::max());
/// An integer in 0 … 2⁶⁴−1.
std::uint64_t to_seed(py::handle value, const std::string& name);
/// None (the library decides; 0) or an integer ≥ 1.
int to_threads(py::handle value, const std::string& name);
/// An int, float or NumPy number; bool is refused.
double to_number(py::handle value, const std::string& name);
bool to_bool(py::handle value, const std::string& name);
std::string to_text(py::handle value, const std::string& name);
/// str, bytes or os.PathLike, in the encoding of the file system.
std::string to_path(py::handle value, const std::string& name);
/// A shallow copy: reading its values may run Python code, which could change the original.
py::dict to_dict(py::handle value, const std::string& name);

/// "options['key']"
std::string entry_name(const std::string& name, const std::string& key);
/// A key that nobody knows is an error that lists those that are known.
void require_known(const std::string& name, const std::string& key, const std::vector<std::string>& known);

py::object threads_object(int n_threads);
py::tuple text_tuple(const std::vector<std::string>& texts);

/// {"name": value} with bool, int, float or str values.
Options to_options(py::handle value, const std::string& name);
py::dict options_object(const Options& options);

using Texts = std::map<std::string, std::string>;

/// {"name": "text"}
Texts to_texts(py::handle value, const std::string& name);
py::dict texts_object(const Texts& texts);

/// Files that are missing or forbidden are OSErrors in Python (FileNotFoundError, PermissionError …), not bad models.
/// Both raise where access is lacking; the second looks at an existing file and at its folder.
void require_readable(const std::string& file, py::handle path);
void require_writable(const std::string& file, py::handle path);

/// The fields of TrainerConfig by name. optimiser_only: those that Optimiser reads.
TrainerConfig to_trainer_config(py::handle value, const std::string& argument, bool optimiser_only = false);

/// The keys of a recurrent configuration are those of Recurrent's constructor, and "cell_options".
RecurrentConfig to_recurrent_config(const py::dict& fields, const std::string& name);
py::dict recurrent_config_object(const RecurrentConfig& config);
/// "bfloat16", or the name of the dtype.
const char* precision_name(const RecurrentConfig& config) noexcept;

/// recurrent, pooling, activation, outputs.
ModelConfig to_model_config(py::handle value);
py::dict model_config_object(const ModelConfig& config);

}  // namespace lstmcore::bindings
