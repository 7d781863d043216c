// What cleanforkd is told by its file or its command line, and the one table of those options.
#pragma once

#include <cleanfork/v1/cleanfork.pb.h>

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "forkserver/daemon/config/quotas.hpp"
#include "forkserver/daemon/log.hpp"

namespace cleanfork::daemon {

struct settings {
    std::string socket;  // empty: where the user's runtime directory is
    log_level least = log_level::info;
    quotas most;
    // By name; of the file alone.
    std::map<std::string, v1::AddTemplateRequest> templates;
};

// An option of the command line, --NAME, which is a key of the file as well.
struct setting {
    std::string_view name;
    std::string_view value;  // what stands for it in a help text
    std::string_view text;
    std::variant<std::string settings::*, log_level settings::*, std::size_t quotas::*> place;
};

std::span<const setting> all_settings();
// Its text with its default, if that is a number or a level.
std::string help_of(const setting& s);
// Takes `value` into `into`; else what it should have been, like "a number from 1".
std::string take(const setting& s, std::string_view value, settings& into);

// What the command line says of them, in its order: it wins over the file.
using given_settings = std::vector<std::pair<const setting*, std::string>>;

}  // namespace cleanfork::daemon
