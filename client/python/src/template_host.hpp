// A Python interpreter as a template: the loop of forkserver/template, with the
// interpreter's own duties around a fork.
#pragma once

#include <pybind11/pybind11.h>

namespace cleanfork::python {

void bind_template(pybind11::module_& m);

}  // namespace cleanfork::python
