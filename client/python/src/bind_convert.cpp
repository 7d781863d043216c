#include "client/python/src/bind_convert.hpp"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <string_view>

namespace cleanfork::python {

std::string bytes_of(py::handle h) {
    PyObject* converted = nullptr;
    if (PyUnicode_FSConverter(h.ptr(), &converted) == 0) throw py::error_already_set();
    const auto bytes = py::reinterpret_steal<py::bytes>(converted);
    return static_cast<std::string>(bytes);
}

std::vector<std::string> list_of_bytes(py::handle iterable) {
    std::vector<std::string> all;
    for (const py::handle each : py::reinterpret_borrow<py::object>(iterable))
        all.push_back(bytes_of(each));
    return all;
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
    constexpr double k_for_ever = 1e9;  // 31 years
    if (!seconds || *seconds >= k_for_ever || std::isnan(*seconds)) return std::nullopt;
    return std::chrono::duration_cast<std::chrono::nanoseconds>(
        std::chrono::duration<double>(std::max(*seconds, 0.0)));
}

int descriptor_of(py::handle h) {
    const int fd = PyObject_AsFileDescriptor(h.ptr());
    if (fd < 0) throw py::error_already_set();
    return fd;
}

environment current_environment() {
    environment e{.clear = true, .unset = {}, .set = {}};
    for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
        // Entries without a name are no variables; the forkserver refuses them.
        const std::string_view text = *entry;
        const std::size_t equals = text.find('=');
        if (equals == 0 || equals == text.npos) continue;
        e.set.emplace(text.substr(0, equals), text.substr(equals + 1));
    }
    return e;
}

}  // namespace cleanfork::python
