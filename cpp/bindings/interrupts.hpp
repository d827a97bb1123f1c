// Ctrl-C while C++ works.
#pragma once

#include "values.hpp"

#include <optional>
#include <utility>

namespace lstmcore::bindings {

/// Lets Python's signal handlers run now and then. What they raise, KeyboardInterrupt as a rule, is kept until the C++
/// loop has come to its orderly end. Only the main thread's calls ever see a signal: Python's own rule.
class Interrupts {
 public:
  Cancel callback() {
    return [this] {
      const py::gil_scoped_acquire acquire;
      if (PyErr_CheckSignals() == 0) return false;
      raised_.emplace();
      return true;
    };
  }

  /// Needs the GIL.
  void rethrow() {
    if (raised_) throw py::error_already_set(std::move(*raised_));
  }

 private:
  std::optional<py::error_already_set> raised_;
};

}  // namespace lstmcore::bindings
