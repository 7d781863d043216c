#include "client/python/src/bind_errors.hpp"

#include <cleanfork/error.hpp>
#include <string>

namespace cleanfork::python {

namespace {

// Paths are bytes: what is no UTF-8 comes back as os.fsdecode() would give it.
py::object decoded(const std::string& text) {
    return py::reinterpret_steal<py::object>(
        PyUnicode_DecodeFSDefaultAndSize(text.data(), static_cast<Py_ssize_t>(text.size())));
}

}  // namespace

void raise(const failure& f) {
    const py::object type = py::module_::import("cleanfork._errors").attr("SpawnError");
    const py::object error =
        type(f.error_number, decoded(f.message()), std::string(to_string(f.step)),
             decoded(f.object), decoded(f.detail));
    PyErr_SetObject(type.ptr(), error.ptr());
    throw py::error_already_set();
}

void register_errors() {
    py::register_exception_translator([](std::exception_ptr p) {
        try {
            if (p) std::rethrow_exception(p);
        } catch (const py::cast_error&) {
            // Each argument was looked at, so this is of what somebody's object answered; what
            // pybind11 says of it names C++ types.
            PyErr_SetString(PyExc_TypeError,
                            "an object has a value of another type than is needed");
        } catch (const spawn_error& e) {
            try {
                raise(e.why());
            } catch (py::error_already_set& raised) {
                raised.restore();
            }
        }
    });
}

}  // namespace cleanfork::python
