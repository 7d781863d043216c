#include "forkserver/spawn/trace_parent.hpp"

#include <algorithm>
#include <string_view>

namespace cleanfork::spawn {

namespace {

constexpr std::string_view k_variable = "TRACEPARENT=";
constexpr std::string_view k_form = "xx-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx-xxxxxxxxxxxxxxxx-xx";

bool is_well_formed(std::string_view value) {
    return value.size() == k_form.size() &&
           std::equal(value.begin(), value.end(), k_form.begin(), [](char c, char form) {
               const bool is_digit = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
               return form == '-' ? c == '-' : is_digit;
           });
}

// The last one counts, as in what the child gets.
template <class Strings>
bool find_in(const Strings& environment, std::string& found) {
    bool any = false;
    for (const std::string_view each : environment) {
        if (!each.starts_with(k_variable)) continue;
        const std::string_view value = each.substr(k_variable.size());
        found = is_well_formed(value) ? value : std::string_view();
        any = true;
    }
    return any;
}

}  // namespace

std::string trace_parent_in(const std::vector<std::string>& environment) {
    std::string found;
    find_in(environment, found);
    return found;
}

std::string trace_parent_of(const v1::SpawnRequest& r, const session_base& base) {
    const v1::Environment& e = r.environment();
    std::string found;
    if (find_in(e.set(), found) || e.clear()) return found;
    const std::string_view name = k_variable.substr(0, k_variable.size() - 1);
    if (std::find(e.unset().begin(), e.unset().end(), name) != e.unset().end()) return {};
    return base.trace_parent;
}

}  // namespace cleanfork::spawn
