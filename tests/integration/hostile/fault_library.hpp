// A daemon whose calls fail when the test says so; see tests/helpers/library_faults.cpp.
#pragma once

#include <doctest/doctest.h>

#include "tests/helpers/faults.hpp"
#include "tests/integration/hostile/hostile_daemon.hpp"

namespace cleanfork::testing {

using test::faulty;

class fault_library {
public:
    fault_library() { REQUIRE(table_ != nullptr); }
    ~fault_library() { ::munmap(table_, sizeof *table_); }
    fault_library(const fault_library&) = delete;
    fault_library& operator=(const fault_library&) = delete;

    // For the daemon's environment.
    [[nodiscard]] std::vector<std::string> environment() const {
        return {"LD_PRELOAD=" + helper_path("library_faults.so"),
                std::string(test::k_faults_variable) + "=" + path_};
    }
    // The next `times` calls fail; of descriptor `fd` alone, or of allocations of `size` at
    // least, after `skipped` that do not.
    void fail(faulty what, int error_number, int times = 1, int fd = -1, std::size_t size = 0,
              int skipped = 0) {
        test::fault& f = of(what);
        f.error_number = error_number;
        f.fd = fd;
        f.size = size;
        f.skipped = skipped;
        f.left = times;
    }
    test::fault& of(faulty what) { return table_->of[static_cast<int>(what)]; }

    // A sanitizer's runtime wants to be the first that is loaded.
    static bool can_be_used() {
        if (k_sanitized)
            MESSAGE("not run: under a sanitizer no library can be put before the others");
        return !k_sanitized;
    }

private:
    scratch_directory directory_;
    std::string path_ = directory_ / "faults";
    test::fault_table* table_ = test::map_faults(path_.c_str());
};

}  // namespace cleanfork::testing
