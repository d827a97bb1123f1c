// One translation unit per element type makes the layers and models; engine.cpp puts them together.
#pragma once

#include "base/namespace.hpp"
#include "engine/engine.hpp"

LSTMCORE_BEGIN_NAMESPACE

template <class T>
std::unique_ptr<engine::RecurrentEngine> make_recurrent(const RecurrentConfig& config);
template <class T>
std::unique_ptr<engine::ConvEngine> make_conv(const ConvConfig& config);
template <class T>
std::unique_ptr<engine::ModelEngine> make_model(const ModelConfig& config);
template <class T>
std::unique_ptr<engine::OptimiserEngine> make_optimiser(const TrainerConfig& config,
                                                        const std::vector<TensorInfo>& tensors);
template <class T>
std::unique_ptr<engine::TreeEngine> make_tree(const TreeConfig& config);
const engine::LabellingEngine& labelling_of(Dtype dtype);
const engine::LanguageEngine& language_of(Dtype dtype);

std::unique_ptr<engine::EdgeEngine> make_edge(const EdgeProgram& program);

LSTMCORE_END_NAMESPACE
