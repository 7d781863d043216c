#include "client/cli/options/arguments.hpp"

#include <algorithm>
#include <memory>
#include <sstream>

#include "client/cli/options/command_error.hpp"

namespace cleanfork::cli {

namespace {

constexpr std::size_t k_help_column = 34;

// Usage first, and without CLI11's "[OPTIONS]", since the usage line says it.
class help_formatter : public CLI::Formatter {
public:
    explicit help_formatter(manual m) : manual_(std::move(m)) { column_width(k_help_column); }

    std::string make_help(const CLI::App* app, std::string,
                          CLI::AppFormatMode mode) const override {
        std::string text = "Usage: cleanfork " + manual_.command +
                           (manual_.usage.empty() ? "" : " ") + manual_.usage + "\n" +
                           manual_.description + "\n";
        // CLI11 puts two empty lines between groups.
        std::istringstream groups(make_positionals(app) + make_groups(app, mode));
        bool was_empty = false;
        for (std::string line; std::getline(groups, line);) {
            if (!line.empty() || !was_empty) text += line + "\n";
            was_empty = line.empty();
        }
        if (!manual_.examples.empty()) text += "\nExamples:\n" + manual_.examples;
        return text;
    }

    // The type and "..." for what may be repeated; no defaults, no REQUIRED.
    std::string make_option_opts(const CLI::Option* option) const override {
        if (option->get_type_size() == 0) return {};
        const bool repeated = option->get_expected_max() == CLI::detail::expected_max_vector_size;
        const std::string type = option->get_type_name();
        return (type.empty() ? "" : " " + type) + (repeated ? " ..." : "");
    }

    std::string make_option_name(const CLI::Option* option, bool) const override {
        std::string names = option->get_name(false, true);
        if (const auto comma = names.find(','); comma != std::string::npos)
            names.insert(comma + 1, " ");
        return names;
    }

private:
    manual manual_;
};

}  // namespace

arguments::arguments(manual m) : manual_(std::move(m)) {
    app_.formatter(std::make_shared<help_formatter>(manual_));
    app_.set_help_flag();
}

void arguments::parse(const std::vector<std::string>& args) {
    // Last, so that it is at the end of the help.
    heading("Help").app_.set_help_flag("-h,--help", "Show this help")->group(heading_);
    std::vector<std::string> shown = for_library(args);
    std::reverse(shown.begin(), shown.end());
    try {
        app_.parse(shown);
    } catch (const CLI::CallForHelp&) {
        throw help_asked(app_.help());
    } catch (const CLI::ParseError& e) {
        refuse(e.what());
    }
}

std::vector<std::string> arguments::for_library(const std::vector<std::string>& args) {
    std::vector<std::string> shown;
    std::size_t missing = positionals_;
    for (std::size_t at = 0; at < args.size();) {
        const std::string& a = args[at];
        if (a == "--") {
            // Words only from here on. The first `--` is no word of a command.
            for (++at; at < args.size() && missing > 0; --missing)
                shown.push_back(keep(args[at++]));
            words_.insert(words_.end(), args.begin() + static_cast<std::ptrdiff_t>(at), args.end());
            break;
        }
        if (a.size() > 1 && a.front() == '-') {
            at = a[1] == '-' ? long_option(args, at, shown) : short_options(args, at, shown);
        } else if (missing > 0) {
            shown.push_back(keep(a));
            --missing;
            ++at;
        } else if (command_ends_options_) {
            words_.assign(args.begin() + static_cast<std::ptrdiff_t>(at), args.end());
            break;
        } else {
            words_.push_back(a);
            ++at;
        }
    }
    if (!takes_words_ && !command_ends_options_ && !words_.empty())
        refuse("unexpected argument \"" + words_.front() + "\"");
    return shown;
}

// `--name`, `--name VALUE` or `--name=VALUE`; the place of the next word.
std::size_t arguments::long_option(const std::vector<std::string>& args, std::size_t at,
                                   std::vector<std::string>& shown) {
    const std::string& a = args[at];
    const std::size_t equals = a.find('=');
    const std::string name = a.substr(0, equals);
    const bool with_value = equals != std::string::npos;
    if (!takes_value(name)) {
        if (with_value) refuse(name + " takes no value");
        shown.push_back(name);
        return at + 1;
    }
    if (with_value) {
        shown.push_back(name + "=" + keep(a.substr(equals + 1)));
        return at + 1;
    }
    if (at + 1 == args.size()) refuse(name + " needs a value");
    shown.push_back(name + "=" + keep(args[at + 1]));
    return at + 2;
}

// `-x`, `-xyz`, `-vVALUE` or `-v VALUE`; the place of the next word.
std::size_t arguments::short_options(const std::vector<std::string>& args, std::size_t at,
                                     std::vector<std::string>& shown) {
    const std::string& a = args[at];
    for (std::size_t i = 1; i < a.size(); ++i) {
        const std::string name = std::string("-") + a[i];
        shown.push_back(name);
        if (!takes_value(name)) continue;
        if (i + 1 < a.size()) {
            shown.push_back(keep(a.substr(i + 1)));
            return at + 1;
        }
        if (at + 1 == args.size()) refuse(name + " needs a value");
        shown.push_back(keep(args[at + 1]));
        return at + 2;
    }
    return at + 1;
}

bool arguments::takes_value(const std::string& name) const {
    const CLI::Option* const option = app_.get_option_no_throw(name);
    if (option == nullptr) refuse("unknown option " + name);
    return option->get_items_expected_max() != 0;
}

std::string arguments::keep(std::string value) {
    kept_.push_back(std::move(value));
    return std::to_string(kept_.size() - 1);
}

void arguments::refuse(const std::string& why) const {
    throw command_error(
        manual_.command + ": " + why + " (see `cleanfork " + manual_.command + " --help`)",
        manual_.usage_exit);
}

arguments& arguments::heading(std::string name) {
    heading_ = std::move(name);
    return *this;
}

CLI::Option* arguments::flag(const std::string& names, bool& value, const std::string& help) {
    return app_.add_flag(names, value, help)->group(heading_);
}

CLI::Option* arguments::text(const std::string& names, const std::string& type,
                             std::optional<std::string>& value, const std::string& help) {
    return add(
               names, type, [&value](const results& texts) { value = texts.back(); }, help)
        ->take_last();
}

CLI::Option* arguments::add(const std::string& names, const std::string& type,
                            std::function<void(const results&)> take, const std::string& help) {
    return app_
        .add_option(
            names,
            [this, take = std::move(take)](const results& numbers) {
                results texts;
                for (const std::string& n : numbers) texts.push_back(kept_.at(std::stoul(n)));
                take(texts);
                return true;
            },
            help)
        ->type_name(type)
        ->group(heading_);
}

void server_arguments::add_to(arguments& a) {
    a.text("--socket", "PATH", socket, "Talk to the forkserver at this socket");
    a.flag("--json", json, "Print JSON");
}

}  // namespace cleanfork::cli
