// toml++ as it is used here: all of it in the headers, errors as values, nothing that writes.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

// What its parser asserts, or has the compiler assume in a release, some texts are not ("[[["). It
// finds that out itself in the lines after that, so the assertions are left out in both.
#define TOML_ASSERT(expr) static_cast<void>(0)
#pragma push_macro("NDEBUG")
#undef NDEBUG
#define TOML_HEADER_ONLY 1
#define TOML_EXCEPTIONS 0
#define TOML_ENABLE_FORMATTERS 0
#include <toml++/impl/forward_declarations.h>
// The tables of blanks of 3.3 have holes, which it has the compiler assume to be nobody's.
#pragma push_macro("TOML_UNREACHABLE")
#undef TOML_UNREACHABLE
#define TOML_UNREACHABLE return false
#include <toml++/impl/unicode.h>
#pragma pop_macro("TOML_UNREACHABLE")
#include <toml++/toml.h>
#pragma pop_macro("NDEBUG")

namespace cleanfork::daemon {

// Gathers what is wrong with a file, with the place of each.
class problem_list {
public:
    explicit problem_list(std::string file) : file_(std::move(file)) {}

    void at(const toml::source_region& place, std::string why) {
        all_.push_back({place.begin.line, place.begin.column, std::move(why)});
    }
    [[nodiscard]] std::size_t size() const noexcept { return all_.size(); }
    // Each as FILE:LINE:COLUMN: why, in the order of the file: a table is read in another.
    [[nodiscard]] std::vector<std::string> lines();

private:
    struct problem {
        std::size_t line, column;
        std::string why;
    };
    std::string file_;
    std::vector<problem> all_;
};

}  // namespace cleanfork::daemon
