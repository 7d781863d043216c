#include "client/cli/options/accounts.hpp"

#include <grp.h>
#include <pwd.h>

namespace cleanfork::cli {

namespace {

// One less than all ones, which means "unchanged" to the kernel.
constexpr long long k_most = 0xffff'fffeLL;

parsed<gid_t> find_group(const std::string& text) {
    if (const group* g = ::getgrnam(text.c_str())) return g->gr_gid;
    if (const auto number = parse_integer(text, 0, k_most)) return static_cast<gid_t>(*number);
    return bad_value{"--group: there is no group \"" + text + "\""};
}

parsed<std::vector<gid_t>> find_groups(const std::string& list) {
    std::vector<gid_t> gids;
    for (std::size_t from = 0; from < list.size();) {
        const std::size_t comma = std::min(list.find(',', from), list.size());
        const auto gid = find_group(list.substr(from, comma - from));
        if (!gid) return gid.error();
        gids.push_back(*gid);
        from = comma + 1;
    }
    return gids;
}

std::vector<gid_t> login_groups(const passwd& user, gid_t primary) {
    int count = 32;
    std::vector<gid_t> gids(static_cast<std::size_t>(count));
    while (::getgrouplist(user.pw_name, primary, gids.data(), &count) < 0)
        gids.resize(static_cast<std::size_t>(count));
    gids.resize(static_cast<std::size_t>(count));
    return gids;
}

}  // namespace

parsed<identity> resolve(const identity_arguments& arguments) {
    identity who;
    if (arguments.group) {
        const auto gid = find_group(*arguments.group);
        if (!gid) return gid.error();
        who.gid = *gid;
    }
    if (arguments.groups) {
        auto gids = find_groups(*arguments.groups);
        if (!gids) return gids.error();
        who.groups = std::move(*gids);
    }
    if (!arguments.user) return who;

    const passwd* user = ::getpwnam(arguments.user->c_str());
    const auto number = parse_integer(*arguments.user, 0, k_most);
    if (user == nullptr && number) user = ::getpwuid(static_cast<uid_t>(*number));
    if (user != nullptr) {
        who.uid = user->pw_uid;
        if (!who.gid) who.gid = user->pw_gid;
        if (!who.groups) who.groups = login_groups(*user, *who.gid);
        return who;
    }
    if (!number) return bad_value{"--user: there is no user \"" + *arguments.user + "\""};
    // Keeping the forkserver's group here would be a surprise that nobody sees.
    if (!who.gid)
        return bad_value{"--user: nothing is known of user " + *arguments.user +
                         ": give its group with --group"};
    who.uid = static_cast<uid_t>(*number);
    return who;
}

}  // namespace cleanfork::cli
