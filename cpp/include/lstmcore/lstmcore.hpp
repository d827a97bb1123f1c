// Everything public in one include.
#pragma once

#include <lstmcore/build_info.hpp>
#include <lstmcore/conv.hpp>
#include <lstmcore/crf.hpp>
#include <lstmcore/ctc.hpp>
#include <lstmcore/decoder.hpp>
#include <lstmcore/dense.hpp>
#include <lstmcore/edge.hpp>
#include <lstmcore/language.hpp>
#include <lstmcore/model.hpp>
#include <lstmcore/optimiser.hpp>
#include <lstmcore/recurrent.hpp>
#include <lstmcore/tensor_file.hpp>
#include <lstmcore/trainer.hpp>
#include <lstmcore/tree.hpp>
