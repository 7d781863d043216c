// What a client of the forkserver was told, in memory that its watcher shares.
#pragma once

#include <array>
#include <cleanfork/client.hpp>
#include <cstdio>
#include <exception>
#include <string>
#include <string_view>

namespace cleanfork::faults {

// One thing that was asked for.
struct told_step {
    char name[24];
    char tag;  // what the process it was about writes to show that it ran; 0: nothing ran
    bool failed;
    int step;
    int error_number;
    char text[240];     // of the failure
    char status[64];    // of a wait: how it ended
    char expected[64];  // and how it should have
};

struct story {
    int count;
    std::array<told_step, 16> steps;
    char wrong[240];  // what no failure may look like
    bool is_over;
    int descriptors_before, descriptors_after;
};

template <std::size_t N>
void copy_text(char (&to)[N], std::string_view text) {
    std::snprintf(to, N, "%.*s", static_cast<int>(text.size()), text.data());
}

class teller {
public:
    explicit teller(story& s) : story_(s) {}

    // True when f() has returned.
    template <class F>
    bool attempt(std::string_view name, char tag, F f) {
        told_step& s = next(name);
        s.tag = tag;
        try {
            f();
            return true;
        } catch (const spawn_error& e) {
            failed(s, e.why());
        } catch (const std::exception& e) {
            failed(s, {});
            wrong(std::string(name) + ": an exception that is no spawn_error: " + e.what());
        }
        return false;
    }
    void status(std::string_view name, const process& p, const exit_status& expected) {
        attempt(name, 0, [&] {
            const auto s = p.wait_for(std::chrono::seconds(8));
            told_step& told = story_.steps.at(static_cast<std::size_t>(story_.count - 1));
            copy_text(told.status, s ? s->to_string() : "still running");
            copy_text(told.expected, expected.to_string());
        });
    }
    void item(std::string_view name, char tag, const failure& f) {
        told_step& s = next(name);
        s.tag = tag;
        failed(s, f);
    }
    void item_began(std::string_view name, char tag) { next(name).tag = tag; }
    void wrong(std::string_view text) { copy_text(story_.wrong, text); }

private:
    told_step& next(std::string_view name) {
        told_step& s = story_.steps.at(static_cast<std::size_t>(story_.count++));
        s = {};
        copy_text(s.name, name);
        return s;
    }
    static void failed(told_step& s, const failure& f) {
        s.failed = true;
        s.step = static_cast<int>(f.step);
        s.error_number = f.error_number;
        copy_text(s.text, f.message());
    }

    story& story_;
};

}  // namespace cleanfork::faults
