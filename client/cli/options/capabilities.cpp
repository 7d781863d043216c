// Options about rights.
#include "client/cli/options/values.hpp"
#include "ipc/base/identity.hpp"

namespace cleanfork::cli {

parsed<cleanfork::identity> parse_identity(std::string_view text) {
    if (text == "caller") return cleanfork::identity::of_caller;
    if (text == "forkserver") return cleanfork::identity::of_forkserver;
    return bad_value{"\"" + std::string(text) + "\" is not caller or forkserver"};
}

namespace {

std::uint64_t all_capabilities() {
    const unsigned n = ipc::capability_count();
    return n >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << n) - 1;
}

parsed<std::uint64_t> capabilities_named(std::string_view name) {
    if (name == "all") return all_capabilities();
    const auto number = ipc::capability_of(name);
    if (number && *number < ipc::capability_count()) return std::uint64_t{1} << *number;
    return bad_value{"there is no capability \"" + std::string(name) + "\""};
}

}  // namespace

parsed<std::uint64_t> parse_capabilities(std::string_view text, std::uint64_t now) {
    for (std::string_view rest = text; !rest.empty() || text.empty();) {
        const std::size_t end = std::min(rest.find(','), rest.size());
        const std::string_view word = rest.substr(0, end);
        rest.remove_prefix(std::min(end + 1, rest.size()));
        if (word.empty() || (word.front() != '+' && word.front() != '-'))
            return bad_value{"\"" + std::string(text) +
                             "\" is not a list like +net_raw,-chown or -all,+kill"};
        const auto which = capabilities_named(word.substr(1));
        if (!which) return which.error();
        now = word.front() == '+' ? now | *which : now & ~*which;
    }
    return now;
}

}  // namespace cleanfork::cli
