// metrics: the figures of a forkserver for Prometheus and its like.
#include <chrono>
#include <cleanfork/client.hpp>
#include <cstdio>
#include <exception>
#include <optional>
#include <string>

#include "client/cli/commands/commands.hpp"
#include "client/cli/commands/errors.hpp"
#include "client/cli/commands/metrics_server.hpp"
#include "client/cli/commands/servers.hpp"
#include "client/cli/options/arguments.hpp"
#include "client/cli/options/exit_codes.hpp"
#include "client/cli/reports/open_metrics.hpp"

namespace cleanfork::cli {

namespace {

using namespace std::chrono_literals;

std::string figures_of(const client& c, std::chrono::seconds patience) {
    return open_metrics(c.stats(patience), c.templates(patience));
}

// Asks the forkserver for each scrape, over one session as long as that lives.
class scraper {
public:
    explicit scraper(std::optional<std::string> socket) : socket_(std::move(socket)) {}

    std::string scrape() {
        // Who asks in a crowd gets what the one before got.
        const auto now = clock::now();
        if (last_.empty() || asked_ + k_fresh < now) {
            last_ = ask_anew();
            asked_ = clock::now();
        }
        return last_;
    }

private:
    using clock = std::chrono::steady_clock;
    static constexpr auto k_fresh = 100ms;
    static constexpr auto k_patience_of_a_scrape = 2s;

    // A session may be over because the forkserver was started anew: then once more.
    std::string ask_anew() {
        for (const bool is_first : {true, false}) {
            const bool had_one = joined_.has_value();
            try {
                if (!joined_) joined_ = join_server(socket_);
                return figures_of(*joined_, k_patience_of_a_scrape);
            } catch (const std::exception&) {
                joined_.reset();
                if (is_first && had_one) continue;
                break;
            }
        }
        return open_metrics_of_none();
    }

    const std::optional<std::string> socket_;
    std::optional<client> joined_;
    std::string last_;
    clock::time_point asked_;
};

}  // namespace

int metrics_command(const words& args, const closed_streams&) {
    arguments form(
        {.command = "metrics",
         .usage = "[OPTION]...",
         .description = "Prints the figures of a forkserver as OpenMetrics text, or serves them to "
                        "Prometheus.\nA forkserver that does not answer is told as cleanfork_up 0 "
                        "by --listen, and is an\nerror without it.",
         .examples = "  cleanfork metrics\n  cleanfork metrics --listen 127.0.0.1:9464\n",
         .usage_exit = k_exit_usage});
    std::optional<std::string> socket;
    std::optional<http_place> place;
    form.value(
        "--listen", "ADDRESS", &parse_http_place, [&](http_place p) { place = std::move(p); },
        "Serve them at http://ADDRESS/metrics until SIGTERM: unix:PATH, or ADDRESS:PORT, where "
        "anybody who can connect may read them");
    form.text("--socket", "PATH", socket, "Talk to the forkserver at this socket");
    form.parse(args);
    return told(about_server(socket), [&] {
        if (place) {
            scraper s(socket);
            serve_metrics(*place, [&s] { return s.scrape(); });
            return k_exit_ok;
        }
        std::fputs(figures_of(join_server(socket), k_patience).c_str(), stdout);
        return k_exit_ok;
    });
}

}  // namespace cleanfork::cli
