// Where the payload of `cleanfork call` comes from, and its result goes to.
#pragma once

#include <cleanfork/templates.hpp>
#include <optional>
#include <string>

#include "client/cli/options/values.hpp"

namespace cleanfork::cli {

// Text, or a file: one that is not empty and regular is passed as it is, what can
// only be read is read to its end, into a memfd.
class payload_source {
public:
    // "-" is standard input. At most one of the two is given.
    static parsed<payload_source> open(const std::optional<std::string>& text,
                                       const std::optional<std::string>& path);

    // Borrows from this.
    [[nodiscard]] payload value() const;
    [[nodiscard]] int file() const noexcept { return file_.get(); }  // -1: it is text

private:
    std::string text_;
    unique_fd file_;
};

class result_sink {
public:
    // "-" is standard output. Without a path: standard output, if there is a result.
    static parsed<result_sink> open(const std::optional<std::string>& path);

    // Replaces what is in the file by all of `answer`. Says what went wrong; empty: nothing.
    [[nodiscard]] std::string write(const unique_fd& answer) const;

private:
    std::string name_;
    unique_fd file_;  // empty: standard output
};

}  // namespace cleanfork::cli
