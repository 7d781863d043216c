// A file system whose server does not answer: FUSE, by hand.
#pragma once

#include <cleanfork/unique_fd.hpp>
#include <string>
#include <thread>

#include "tests/integration/hostile/hostile_daemon.hpp"

namespace cleanfork::testing {

// Mounted for this process and those that it starts from now on. Nothing is answered but what is
// asked of the file "slow", up to its close.
class silent_files {
public:
    // Why there can be none here; empty: there can.
    static std::string missing();

    silent_files();
    ~silent_files();
    silent_files(const silent_files&) = delete;
    silent_files& operator=(const silent_files&) = delete;

    [[nodiscard]] const std::string& path() const noexcept { return directory_.path(); }
    [[nodiscard]] std::string operator/(std::string_view name) const { return directory_ / name; }

private:
    void serve() const;
    bool answer(const char* request) const;

    scratch_directory directory_;
    unique_fd device_, stop_;
    std::thread server_;
};

}  // namespace cleanfork::testing
