// A variable of the environment for the time of a test.
#pragma once

#include <cstdlib>
#include <string>

// Sets a variable, or unsets it with null, and puts it back.
class environment_variable {
public:
    environment_variable(const char* name, const char* value) : name_(name) {
        const char* old = std::getenv(name);
        if (old != nullptr) old_ = old;
        had_ = old != nullptr;
        value != nullptr ? ::setenv(name, value, 1) : ::unsetenv(name);
    }
    ~environment_variable() { had_ ? ::setenv(name_, old_.c_str(), 1) : ::unsetenv(name_); }
    environment_variable(const environment_variable&) = delete;
    environment_variable& operator=(const environment_variable&) = delete;

private:
    const char* name_;
    std::string old_;
    bool had_ = false;
};
