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

void arguments::parse(std::vector<std::string> args) {
    // Last, so that it is at the end of the help.
    heading("Help").app_.set_help_flag("-h,--help", "Show this help")->group(heading_);
    std::reverse(args.begin(), args.end());
    try {
        app_.parse(args);
    } catch (const CLI::CallForHelp&) {
        throw help_asked(app_.help());
    } catch (const CLI::ParseError& e) {
        refuse(e.what());
    }
}

std::vector<std::string> arguments::command_words() const {
    std::vector<std::string> words = app_.remaining();
    if (words.empty()) return words;
    if (words.front() == "--")
        words.erase(words.begin());
    else if (words.front().starts_with('-') && words.front() != "-")
        refuse("unknown option " + words.front());
    return words;
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
            [take = std::move(take)](const results& texts) {
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
