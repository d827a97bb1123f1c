// The compiled core of the Python package: arrays are checked here, the GIL is released, the library does the work.
#include "register.hpp"

// The GIL stays required (no mod_gil_not_used): spare tapes and the objects that keep arrays alive rely on it.
PYBIND11_MODULE(_core, module) {
  // Every docstring starts with its own text signature, which inspect.signature() reads.
  pybind11::options options;
  options.disable_function_signatures();

  module.doc() = "Compiled core of lstmcore. Use the names that the package lstmcore exports.";
  lstmcore::bindings::register_info(module);
  lstmcore::bindings::register_sequences(module);
  lstmcore::bindings::register_recurrent(module);
  lstmcore::bindings::register_conv(module);
  lstmcore::bindings::register_model(module);
  lstmcore::bindings::register_trainer(module);
  lstmcore::bindings::register_optimiser(module);
  lstmcore::bindings::register_tensors(module);
  lstmcore::bindings::register_tree(module);
  lstmcore::bindings::register_labelling(module);
  lstmcore::bindings::register_ctc(module);
  lstmcore::bindings::register_language(module);
  lstmcore::bindings::register_decoder(module);
  lstmcore::bindings::register_edge(module);
}
