// Everything public in one include.
#pragma once

#include <lstmcore/build_info.hpp>
#include <lstmcore/conv.hpp>
#include <lstmcore/model.hpp>
#include <lstmcore/recurrent.hpp>
#include <lstmcore/trainer.hpp>
