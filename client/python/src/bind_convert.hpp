// Values of Python as the library's, and back.
//
// With the GIL held. What does not fit throws py::error_already_set, or the
// py::builtin_exception that Python's own functions would raise.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cleanfork/client.hpp>
#include <optional>
#include <string>
#include <vector>

namespace cleanfork::python {

namespace py = pybind11;

// str, bytes or os.PathLike, as os.fsencode(): without NUL ("embedded null byte").
std::string bytes_of(py::handle h);
std::vector<std::string> list_of_bytes(py::handle iterable);
// As os.fsdecode().
py::object text_of(const std::string& bytes);

// "cgroup", "walk" or None.
py::object name_of(tree_means by);

// Seconds; None is for ever, negative ones are now.
timeout to_timeout(const std::optional<double>& seconds);

// An int or what has a fileno().
int descriptor_of(py::handle h);

// The environment of this process, as it is now: what putenv(3) changed too.
environment current_environment();

}  // namespace cleanfork::python
