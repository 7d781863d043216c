#include "client/cli/commands/errors.hpp"

#include <cstdio>

#include "client/cli/commands/servers.hpp"
#include "client/cli/options/command_error.hpp"

namespace cleanfork::cli {

error_manner about_server(const std::optional<std::string>& socket) {
    return {.tell = [socket](const failure& f) { say(explain(f, socket)); },
            .code = [](const failure&) { return k_exit_error; }};
}

int told(const error_manner& manner, const std::function<int()>& act) {
    try {
        return act();
    } catch (const help_asked& help) {
        std::fputs(help.what(), stdout);
        return k_exit_ok;
    } catch (const command_error& e) {
        say(e.what());
        return e.code();
    } catch (const spawn_error& e) {
        manner.tell(e.why());
        return manner.code(e.why());
    } catch (const boost::system::system_error& e) {
        manner.tell_other(as_failure(e.code(), step::prepare).message());
        return k_exit_failed;
    } catch (const std::exception& e) {
        manner.tell_other(e.what());
        return k_exit_failed;
    }
}

}  // namespace cleanfork::cli
