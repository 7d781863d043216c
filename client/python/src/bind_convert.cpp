#include "client/python/src/bind_convert.hpp"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string_view>

#include "client/python/src/variables.hpp"

namespace cleanfork::python {

namespace {

// As timeouts have it; 31 years, and no overflow of nanoseconds.
constexpr double k_for_ever = 1e9;

bool is_text(py::handle h) { return PyUnicode_Check(h.ptr()) || PyBytes_Check(h.ptr()); }

}  // namespace

void refuse_type(const char* name, const char* wanted, py::handle got) {
    throw py::type_error("argument '" + std::string(name) + "' must be " + wanted + ", not " +
                         (got.is_none() ? "None" : Py_TYPE(got.ptr())->tp_name));
}

std::string bytes_of(py::handle h, const char* name) {
    if (!is_text(h) && !py::hasattr(h, "__fspath__"))
        refuse_type(name, "str, bytes or os.PathLike", h);
    PyObject* converted = nullptr;
    if (PyUnicode_FSConverter(h.ptr(), &converted) == 0) throw py::error_already_set();
    const auto bytes = py::reinterpret_steal<py::bytes>(converted);
    return static_cast<std::string>(bytes);
}

std::vector<std::string> list_of_bytes(py::handle iterable, const char* name) {
    std::vector<std::string> all;
    for_each_of(iterable, name, [&](py::handle each) { all.push_back(bytes_of(each, name)); });
    return all;
}

std::string buffer_of(py::handle h, const char* name) {
    if (PyObject_CheckBuffer(h.ptr()) == 0) refuse_type(name, "a bytes-like object", h);
    return py::bytes(py::reinterpret_borrow<py::object>(h)).cast<std::string>();
}

bool truth_of(py::handle h) {
    const int truth = PyObject_IsTrue(h.ptr());
    if (truth < 0) throw py::error_already_set();
    return truth != 0;
}

std::int64_t integer_between(py::handle h, const char* name, std::int64_t least,
                             std::int64_t most) {
    if (PyIndex_Check(h.ptr()) == 0) refuse_type(name, "an integer", h);
    const auto number = py::reinterpret_steal<py::object>(PyNumber_Index(h.ptr()));
    if (!number) throw py::error_already_set();
    int overflow = 0;
    const long long value = PyLong_AsLongLongAndOverflow(number.ptr(), &overflow);
    if (overflow == 0 && value >= least && value <= most) return value;
    const bool small = overflow < 0 || (overflow == 0 && value < least);
    throw std::overflow_error("argument '" + std::string(name) + "' is " +
                              (small ? "less than minimum" : "greater than maximum"));
}

void for_each_of(py::handle iterable, const char* name,
                 const std::function<void(py::handle)>& visit) {
    const auto iterator = py::reinterpret_steal<py::object>(
        is_text(iterable) ? nullptr : PyObject_GetIter(iterable.ptr()));
    if (!iterator) {
        if (PyErr_Occurred() != nullptr && PyErr_ExceptionMatches(PyExc_TypeError) == 0)
            throw py::error_already_set();
        PyErr_Clear();
        refuse_type(name, "an iterable", iterable);
    }
    while (const auto each = py::reinterpret_steal<py::object>(PyIter_Next(iterator.ptr())))
        visit(each);
    if (PyErr_Occurred() != nullptr) throw py::error_already_set();
}

void for_each_item(py::handle mapping, const char* name,
                   const std::function<void(py::handle, py::handle)>& visit) {
    if (!py::hasattr(mapping, "items")) refuse_type(name, "a mapping", mapping);
    for_each_of(mapping.attr("items")(), name, [&](py::handle item) {
        const auto [key, value] = pair_of(item, name);
        visit(key, value);
    });
}

std::pair<py::object, py::object> pair_of(py::handle h, const char* name) {
    const bool sequence = PySequence_Check(h.ptr()) != 0 && !is_text(h);
    if (!sequence || py::len(h) != 2) refuse_type(name, "made of pairs", h);
    const auto pair = py::reinterpret_borrow<py::sequence>(h);
    return {py::object(pair[0]), py::object(pair[1])};
}

double seconds_of(py::handle h, const char* name) {
    if (PyNumber_Check(h.ptr()) == 0 || PyComplex_Check(h.ptr()))
        refuse_type(name, "a number of seconds", h);
    const double value = PyFloat_AsDouble(h.ptr());
    if (PyErr_Occurred() != nullptr) {
        if (PyErr_ExceptionMatches(PyExc_OverflowError) == 0) throw py::error_already_set();
        PyErr_Clear();
        throw std::overflow_error("argument '" + std::string(name) + "' is too large");
    }
    return value;
}

std::chrono::milliseconds milliseconds_of(py::handle h, const char* name) {
    const double seconds = seconds_of(h, name);
    if (std::isnan(seconds))
        throw py::value_error("argument '" + std::string(name) + "' is no number");
    const double bounded = std::clamp(seconds, 0.0, k_for_ever);
    return std::chrono::milliseconds(static_cast<std::int64_t>(bounded * 1000));
}

py::object text_of(const std::string& bytes) {
    return py::reinterpret_steal<py::object>(
        PyUnicode_DecodeFSDefaultAndSize(bytes.data(), static_cast<Py_ssize_t>(bytes.size())));
}

py::object name_of(tree_means by) {
    if (by == tree_means::none) return py::none();
    return py::str(by == tree_means::cgroup ? "cgroup" : "walk");
}

timeout to_timeout(const std::optional<double>& seconds) {
    if (!seconds || *seconds >= k_for_ever || std::isnan(*seconds)) return std::nullopt;
    return std::chrono::duration_cast<std::chrono::nanoseconds>(
        std::chrono::duration<double>(std::max(*seconds, 0.0)));
}

bool is_descriptor(py::handle h) { return PyLong_Check(h.ptr()) || py::hasattr(h, "fileno"); }

path_or_fd path_or_fd_of(py::handle h, const char* name) {
    if (is_descriptor(h)) return descriptor_of(h, name);
    return bytes_of(h, name);
}

std::map<std::string, int> named_descriptors_of(py::handle h, const char* name) {
    std::map<std::string, int> all;
    for_each_item(h, name, [&](py::handle key, py::handle value) {
        all.insert_or_assign(bytes_of(key, name), descriptor_of(value, name));
    });
    return all;
}

int descriptor_of(py::handle h, const char* name) {
    if (!is_descriptor(h)) refuse_type(name, "a descriptor, or have a fileno()", h);
    if (PyLong_Check(h.ptr())) integer_of<int>(h, name);
    const int fd = PyObject_AsFileDescriptor(h.ptr());
    if (fd < 0) throw py::error_already_set();
    return fd;
}

environment current_environment() {
    environment e{.clear = true, .unset = {}, .set = {}};
    for (const std::string_view text : variables_now()) {
        // Entries without a name are no variables; the forkserver refuses them.
        const std::size_t equals = text.find('=');
        if (equals == 0 || equals == text.npos) continue;
        e.set.emplace(text.substr(0, equals), text.substr(equals + 1));
    }
    return e;
}

}  // namespace cleanfork::python
