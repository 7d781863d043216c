// The options of `cleanfork spawn` and of what is like it, as they were typed,
// before they are put together.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "client/cli/options/accounts.hpp"
#include "client/cli/options/arguments.hpp"
#include "client/cli/options/spawn_request.hpp"
#include "client/cli/options/standard_streams.hpp"

namespace cleanfork::cli {

// What the options describe.
enum class subject { program, entry, template_process };

struct spawn_arguments {
    spawn_request request;  // what an option sets without regard to others
    std::vector<fd_mapping> fds;
    std::vector<named_source> named_fds;
    identity_arguments identity;
    std::optional<mode_t> umask;
    bool setsid = false;
    bool process_group_given = false;
    std::optional<pid_t> join_group;
    bool die_with_parent = false;
    bool lifetime_given = false;
    bool timeout_signal_given = false;

    [[nodiscard]] bool targets_standard_stream() const;

    // `form` refers to *this from then on.
    void add_to(arguments& form, subject s);

    // Puts them together in `request`; or says what is wrong.
    std::string settle(const closed_streams& streams);

private:
    void add_environment(arguments& form, subject s);
    void add_descriptors(arguments& form, subject s);
    void add_process(arguments& form);
    void add_limits(arguments& form);
    void add_identity(arguments& form);
    void add_end(arguments& form);
    void add_conduct(arguments& form, subject s);
};

}  // namespace cleanfork::cli
