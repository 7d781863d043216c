// The settings in force: those of the file with those of the command line over them.
#pragma once

#include <string>

#include "forkserver/daemon/options.hpp"
#include "forkserver/daemon/server.hpp"

namespace cleanfork::daemon {

// `set`, so that a flood of connections, or of what waits, leaves something to this process.
quotas fitted_to_process(const quotas& set);

class configuration {
public:
    configuration(const options& o, server& s, logger& log)
        : options_(o), now_(o.set), server_(s), log_(log) {}

    // Starts the templates.
    void begin();
    // Reads the file again. All of it holds then, or, where something in it is wrong, nothing.
    void reload();

private:
    const options& options_;
    settings now_;
    server& server_;
    logger& log_;
};

}  // namespace cleanfork::daemon
