// How the functions of the module take their arguments: as Python's own do.
//
// pybind11 would tell a caller of C++ types and overloads, and call what was never made. So each
// function takes whatever it is given, and this is the one place that looks at it: a TypeError
// names the argument that is missing, unknown or of another type, an OverflowError a number that
// does not fit. With the GIL held.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "client/python/src/bind_convert.hpp"

namespace cleanfork::python {

struct parameter {
    enum class kind { usual, keyword_only };

    const char* name;
    py::object otherwise = {};  // none: it must be given
    kind how = kind::usual;
};

inline parameter keyword(const char* name, py::object otherwise) {
    return {name, std::move(otherwise), parameter::kind::keyword_only};
}

class arguments;

class signature {
public:
    enum class others { refused, taken };

    signature(const char* function, std::vector<parameter> parameters,
              others unknown = others::refused)
        : function_(function), parameters_(std::move(parameters)), others_(unknown) {}

    // `skip`: 1 when the first of `given` is the object itself.
    [[nodiscard]] arguments bound(const py::args& given, std::size_t skip,
                                  const py::kwargs& named) const;
    [[nodiscard]] const char* function() const { return function_; }
    // For help(): "function(a, b=None, *, c=1)".
    [[nodiscard]] std::string text(bool method) const;

private:
    friend class arguments;

    const char* function_;
    std::vector<parameter> parameters_;
    others others_;
};

// Those of one call. Every name is one of the signature's.
class arguments {
public:
    [[nodiscard]] const py::object& operator[](std::string_view name) const;
    [[nodiscard]] bool flag(std::string_view name) const;
    [[nodiscard]] int integer(const char* name) const;
    [[nodiscard]] std::string text(const char* name) const;  // str, bytes or os.PathLike
    [[nodiscard]] std::optional<double> seconds(const char* name) const;  // None: for ever
    // Keywords that are none of the signature's.
    [[nodiscard]] const py::kwargs& others() const { return others_; }

private:
    friend class signature;
    explicit arguments(const signature& s) : signature_(s), values_(s.parameters_.size()) {}

    const signature& signature_;
    std::vector<py::object> values_;
    py::kwargs others_;
};

// Whether it was ever made: T.__new__(T) is one that was not.
bool is_made(py::handle h);
[[noreturn]] void refuse_self(const py::args& given, py::handle type, const char* function);

template <class T>
T& self_of(const py::args& given, const char* function) {
    if (given.empty() || !py::isinstance<T>(given[0]) || !is_made(given[0]))
        refuse_self(given, py::type::of<T>(), function);
    return *given[0].cast<T*>();
}

template <class T, class F>
void method(py::class_<T>& c, signature s, F call) {
    const std::string doc = s.text(true);
    const char* const name = s.function();
    c.attr(name) = py::cpp_function(
        [s = std::move(s), call](const py::args& given, const py::kwargs& named) {
            T& self = self_of<T>(given, s.function());
            return call(self, s.bound(given, 1, named));
        },
        py::name(name), py::is_method(c), doc.c_str());
}

template <class T, class F>
void property(py::class_<T>& c, const char* name, F get) {
    c.def_property_readonly(name, py::cpp_function(
                                      [name, get](const py::args& given, const py::kwargs&) {
                                          return std::invoke(get, self_of<T>(given, name));
                                      },
                                      py::is_method(c)));
}

template <class F>
void function(py::module_& m, signature s, F call) {
    const std::string doc = s.text(false);
    const char* const name = s.function();
    m.def(
        name,
        [s = std::move(s), call](const py::args& given, const py::kwargs& named) {
            return call(s.bound(given, 0, named));
        },
        doc.c_str());
}

// Only the library makes them, and they are of this process: no constructor, no copy, no pickle.
void made_by_library_only(py::object type);

}  // namespace cleanfork::python
