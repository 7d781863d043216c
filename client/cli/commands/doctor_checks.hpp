// What `cleanfork doctor` looks at, each a diagnosis with what to do about it.
#pragma once

#include <cleanfork/client.hpp>
#include <optional>
#include <string>
#include <vector>

namespace cleanfork::cli {

enum class verdict { ok, warning, missing };

struct diagnosis {
    std::string name;
    verdict how = verdict::ok;
    std::string text;    // what was found, and what it means
    std::string remedy;  // what to do about it; empty when nothing is to be done
};

struct trial {
    std::vector<diagnosis> findings;
    bool spawn_works = false;
    std::optional<std::vector<std::string>> features;  // as the forkserver probed them
};

// The daemon's binary, a private forkserver that runs /bin/true, the running forkserver.
trial try_cleanfork();
// One per feature this version knows.
std::vector<diagnosis> check_kernel(const std::optional<std::vector<std::string>>& features);
std::vector<diagnosis> check_account();

}  // namespace cleanfork::cli
