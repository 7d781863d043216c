// One subcommand's options: CLI11 underneath, help and usage errors in one form.
//
// What people type is opaque: the library is shown the names of options and, for each value,
// the number of the place where it is kept. It never sees a value or a word of a command.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "client/cli/options/values.hpp"

namespace cleanfork::cli {

struct manual {
    std::string command;  // "spawn"
    std::string usage;    // what follows "cleanfork spawn "
    std::string description;
    std::string examples;
    int usage_exit;  // what a usage error ends with
};

class arguments {
public:
    explicit arguments(manual m);

    // Parses; throws help_asked, or refuses.
    void parse(const std::vector<std::string>& args);

    // A command follows the positional values: options end at its first word.
    arguments& ends_with_command() {
        command_ends_options_ = true;
        return *this;
    }
    // Any words may follow the positional values, options between them.
    arguments& ends_with_words() {
        takes_words_ = true;
        return *this;
    }
    // After parse(): the words that follow the positional values, as they were typed.
    [[nodiscard]] const std::vector<std::string>& words() const noexcept { return words_; }

    // Throws command_error: what was typed is wrong, and why.
    [[noreturn]] void refuse(const std::string& why) const;
    // The same, unless `why` is empty.
    void refuse_if(const std::string& why) const {
        if (!why.empty()) refuse(why);
    }

    // Begins a heading of the help: options added from here on are below it.
    arguments& heading(std::string name);

    CLI::Option* flag(const std::string& names, bool& value, const std::string& help);
    CLI::Option* text(const std::string& names, const std::string& type,
                      std::optional<std::string>& value, const std::string& help);

    // A value that `read` understands and `store` takes. The last one given counts.
    template <class Read, class Store>
    CLI::Option* value(const std::string& names, const std::string& type, Read read, Store store,
                       const std::string& help) {
        return add(names, type, checked(names, read, store), help)->take_last();
    }

    // The next word that is no option has to be there.
    template <class Read, class Store>
    void positional(const std::string& name, Read read, Store store, const std::string& help) {
        ++positionals_;
        value(name, "", read, store, help)->required();
    }

    // The same, for an option that may be given many times.
    template <class Read, class Store>
    CLI::Option* values(const std::string& names, const std::string& type, Read read, Store store,
                        const std::string& help) {
        // Without allow_extra_args(false) it would swallow COMMAND.
        return add(names, type, checked(names, read, store), help)
            ->expected(1, CLI::detail::expected_max_vector_size)
            ->allow_extra_args(false);
    }

private:
    using results = std::vector<std::string>;

    CLI::Option* add(const std::string& names, const std::string& type,
                     std::function<void(const results&)> take, const std::string& help);

    // What CLI11 is to parse in place of `args`.
    std::vector<std::string> for_library(const std::vector<std::string>& args);
    std::size_t long_option(const std::vector<std::string>& args, std::size_t at,
                            std::vector<std::string>& shown);
    std::size_t short_options(const std::vector<std::string>& args, std::size_t at,
                              std::vector<std::string>& shown);
    [[nodiscard]] bool takes_value(const std::string& name) const;  // refuses an unknown one
    std::string keep(std::string value);

    template <class Read, class Store>
    static std::function<void(const results&)> checked(const std::string& names, Read read,
                                                       Store store) {
        const std::size_t long_name = names.find("--");
        return [name = names.substr(long_name != std::string::npos ? long_name : 0), read,
                store](const results& texts) {
            for (const std::string& t : texts) {
                auto parsed_value = read(t);
                if (!parsed_value) throw CLI::ValidationError(name, parsed_value.error().why);
                store(std::move(*parsed_value));
            }
        };
    }

    manual manual_;
    std::string heading_ = "Options";
    CLI::App app_;
    std::size_t positionals_ = 0;
    bool command_ends_options_ = false, takes_words_ = false;
    std::vector<std::string> kept_;  // the values, by the number that CLI11 has for each
    std::vector<std::string> words_;
};

// --socket PATH of every command that needs a running forkserver, and --json.
struct server_arguments {
    std::optional<std::string> socket;
    bool json = false;
    void add_to(arguments& a);
};

}  // namespace cleanfork::cli
