// Users and groups by name, from the account database.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "client/cli/options/values.hpp"

namespace cleanfork::cli {

struct identity_arguments {
    std::optional<std::string> user, group, groups;
};

struct identity {
    std::optional<uid_t> uid;
    std::optional<gid_t> gid;
    std::optional<std::vector<gid_t>> groups;
};

// With a user and without group or groups, they are the user's own, as at login.
parsed<identity> resolve(const identity_arguments& arguments);

}  // namespace cleanfork::cli
