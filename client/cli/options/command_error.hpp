// What ends a command before it has done anything; told in one place, told() of commands/.
#pragma once

#include <exception>
#include <stdexcept>
#include <string>
#include <utility>

namespace cleanfork::cli {

// what() is told as one line, and the command ends with `code`.
class command_error : public std::runtime_error {
public:
    command_error(const std::string& line, int code) : std::runtime_error(line), code_(code) {}
    [[nodiscard]] int code() const noexcept { return code_; }

private:
    int code_;
};

// --help: what() goes to standard output, and the command succeeds.
class help_asked : public std::exception {
public:
    explicit help_asked(std::string text) : text_(std::move(text)) {}
    [[nodiscard]] const char* what() const noexcept override { return text_.c_str(); }

private:
    std::string text_;
};

}  // namespace cleanfork::cli
