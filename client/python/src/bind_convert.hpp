// Values of Python as the library's, and back.
//
// With the GIL held. What does not fit throws py::error_already_set, or the
// py::builtin_exception that Python's own functions would raise: a TypeError for another type, an
// OverflowError for a number that the C type cannot have; each names the argument. py::cast() is
// for what has been looked at: what it throws speaks of C++ types.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cleanfork/client.hpp>
#include <concepts>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace cleanfork::python {

namespace py = pybind11;

// "argument 'nice' must be an integer, not str".
[[noreturn]] void refuse_type(const char* name, const char* wanted, py::handle got);

// str, bytes or os.PathLike, as os.fsencode(): without NUL ("embedded null byte").
std::string bytes_of(py::handle h, const char* name);
// Of one string, which is iterable too, its letters are not meant.
std::vector<std::string> list_of_bytes(py::handle iterable, const char* name);
// As os.fsdecode().
py::object text_of(const std::string& bytes);

// "cgroup", "walk" or None.
py::object name_of(tree_means by);

std::string buffer_of(py::handle h, const char* name);  // a bytes-like object
bool truth_of(py::handle h);
std::int64_t integer_between(py::handle h, const char* name, std::int64_t least, std::int64_t most);
template <std::integral T>
T integer_of(py::handle h, const char* name) {
    static_assert(sizeof(T) < sizeof(std::int64_t) || std::signed_integral<T>);
    using limits = std::numeric_limits<T>;
    return static_cast<T>(integer_between(h, name, limits::min(), limits::max()));
}
template <std::integral T>
std::vector<T> integers_of(py::handle h, const char* name);

void for_each_of(py::handle iterable, const char* name,
                 const std::function<void(py::handle)>& visit);
void for_each_item(py::handle mapping, const char* name,
                   const std::function<void(py::handle, py::handle)>& visit);
std::pair<py::object, py::object> pair_of(py::handle h, const char* name);

double seconds_of(py::handle h, const char* name);  // a number
// Of seconds: bounded by the longest that there can be; negative ones are 0.
std::chrono::milliseconds milliseconds_of(py::handle h, const char* name);
// Seconds; None and NaN are for ever, negative ones are now.
timeout to_timeout(const std::optional<double>& seconds);

// An int or what has a fileno().
bool is_descriptor(py::handle h);
int descriptor_of(py::handle h, const char* name);
path_or_fd path_or_fd_of(py::handle h, const char* name);
std::map<std::string, int> named_descriptors_of(py::handle h, const char* name);

// The environment of this process, as it is now: what putenv(3) changed too.
environment current_environment();

template <std::integral T>
std::vector<T> integers_of(py::handle h, const char* name) {
    std::vector<T> all;
    for_each_of(h, name, [&](py::handle each) { all.push_back(integer_of<T>(each, name)); });
    return all;
}

}  // namespace cleanfork::python
