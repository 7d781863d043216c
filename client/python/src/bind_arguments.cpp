#include "client/python/src/bind_arguments.hpp"

#include <algorithm>

namespace cleanfork::python {

namespace {

std::string plural(std::size_t n) {
    return std::to_string(n) + " positional argument" + (n == 1 ? "" : "s");
}

}  // namespace

arguments signature::bound(const py::args& given, std::size_t skip, const py::kwargs& named) const {
    arguments a(*this);
    const auto usual =
        static_cast<std::size_t>(std::count_if(parameters_.begin(), parameters_.end(), [](auto& p) {
            return p.how == parameter::kind::usual;
        }));
    const std::size_t count = given.size() - skip;
    if (count > usual)
        throw py::type_error(std::string(function_) + "() takes at most " + plural(usual) + " (" +
                             std::to_string(count) + " given)");
    for (std::size_t i = 0; i < count; ++i) a.values_[i] = given[i + skip];
    for (const auto& [key, value] : named) {
        const auto name = key.cast<std::string>();
        const auto p = std::find_if(parameters_.begin(), parameters_.end(),
                                    [&](const parameter& each) { return name == each.name; });
        if (p == parameters_.end()) {
            if (others_ == others::refused)
                throw py::type_error(std::string(function_) +
                                     "() got an unexpected keyword argument '" + name + "'");
            a.others_[key] = value;
            continue;
        }
        auto& place = a.values_[static_cast<std::size_t>(p - parameters_.begin())];
        if (place)
            throw py::type_error(std::string(function_) + "() got multiple values for argument '" +
                                 name + "'");
        place = py::reinterpret_borrow<py::object>(value);
    }
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
        if (a.values_[i]) continue;
        a.values_[i] = parameters_[i].otherwise;
        if (!a.values_[i])
            throw py::type_error(std::string(function_) + "() missing required argument: '" +
                                 parameters_[i].name + "'");
    }
    return a;
}

std::string signature::text(bool method) const {
    std::string all = std::string(function_) + "(" + (method ? "self" : "");
    const auto add = [&](const std::string& word) {
        all += (all.back() == '(' ? "" : ", ") + word;
    };
    bool keywords = false;
    for (const parameter& p : parameters_) {
        if (p.how == parameter::kind::keyword_only && !std::exchange(keywords, true)) add("*");
        add(p.otherwise ? std::string(p.name) + "=" + py::repr(p.otherwise).cast<std::string>()
                        : std::string(p.name));
    }
    if (others_ == others::taken) add("**attributes");
    return all + ")";
}

const py::object& arguments::operator[](std::string_view name) const {
    const auto& all = signature_.parameters_;
    const auto p = std::find_if(all.begin(), all.end(),
                                [&](const parameter& each) { return each.name == name; });
    return values_.at(static_cast<std::size_t>(p - all.begin()));
}

bool arguments::flag(std::string_view name) const { return truth_of((*this)[name]); }
int arguments::integer(const char* name) const { return integer_of<int>((*this)[name], name); }
std::string arguments::text(const char* name) const { return bytes_of((*this)[name], name); }

std::optional<double> arguments::seconds(const char* name) const {
    const py::object& value = (*this)[name];
    if (value.is_none()) return std::nullopt;
    return seconds_of(value, name);
}

bool is_made(py::handle h) {
    auto* const instance = reinterpret_cast<py::detail::instance*>(h.ptr());
    return instance->get_value_and_holder().holder_constructed();
}

void refuse_self(const py::args& given, py::handle type, const char* function) {
    const std::string what(py::str(type.attr("__name__")));
    if (given.empty())
        throw py::type_error("unbound method " + what + "." + function + "() needs an argument");
    if (py::isinstance(given[0], type))
        throw py::type_error("this " + what + " was never made: only the library makes one");
    throw py::type_error("descriptor '" + std::string(function) + "' for '" + what +
                         "' objects doesn't apply to a '" + Py_TYPE(given[0].ptr())->tp_name +
                         "' object");
}

void made_by_library_only(py::object type) {
    const std::string name(py::str(type.attr("__name__")));
    type.attr("__init__") = py::cpp_function(
        [name](const py::args&, const py::kwargs&) -> void {
            throw py::type_error("cannot create '" + name + "' instances");
        },
        py::name("init"), py::is_method(type));  // "__init__" means another thing to pybind11
    type.attr("__reduce__") = py::cpp_function(
        [name](const py::args&, const py::kwargs&) -> void {
            throw py::type_error("cannot pickle '" + name + "' object");
        },
        py::name("__reduce__"), py::is_method(type));
}

}  // namespace cleanfork::python
