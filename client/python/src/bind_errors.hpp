// Failures of cleanfork as exceptions of Python.
#pragma once

#include <pybind11/pybind11.h>

#include <cleanfork/failure.hpp>
#include <utility>

namespace cleanfork::python {

namespace py = pybind11;

// Sets cleanfork.SpawnError and throws py::error_already_set. With the GIL held.
[[noreturn]] void raise(const failure& f);

// The value, or raise(). With the GIL held.
template <class T>
T value_or_raise(result<T>&& r) {
    if (!r) raise(r.error());
    if constexpr (!std::is_void_v<T>) return std::move(*r);
}

// spawn_error of the library, wherever a binding lets it through.
void register_errors();

}  // namespace cleanfork::python
