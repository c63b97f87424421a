// The compiled part of the Python package, fovea._fovea: thin, and private. What people see, its words, types
// and defaults, is Python (python/src/fovea).
#pragma once

#include <nanobind/nanobind.h>

namespace fovea::python {

void add_engine(nanobind::module_& module);
void add_attention(nanobind::module_& module);

}  // namespace fovea::python
