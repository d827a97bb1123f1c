// One function per source file; module.cpp calls them in turn.
#pragma once

#include <pybind11/pybind11.h>

namespace lstmcore::bindings {

void register_info(pybind11::module_& module);
void register_sequences(pybind11::module_& module);
void register_recurrent(pybind11::module_& module);
void register_conv(pybind11::module_& module);
void register_model(pybind11::module_& module);
void register_trainer(pybind11::module_& module);
void register_optimiser(pybind11::module_& module);
void register_tensors(pybind11::module_& module);
void register_tree(pybind11::module_& module);
void register_labelling(pybind11::module_& module);
void register_ctc(pybind11::module_& module);
void register_language(pybind11::module_& module);
void register_decoder(pybind11::module_& module);
void register_edge(pybind11::module_& module);

}  // namespace lstmcore::bindings
