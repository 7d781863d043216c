#include <doctest/doctest.h>

#include "tests/integration/attributes/failing_steps.hpp"

namespace cleanfork::test {

json try_failing(const client& c, const failing& f) {
    json outcome = json::object();
    const leftovers before = leftovers_of(c);
    // More than once: what a failure leaves behind may show only then.
    for (int i = 0; i < 3; ++i) {
        auto r = c.try_spawn(f.options);
        if (r) {
            r->terminate();
            r->wait();
            outcome["spawned"] = true;
            return outcome;
        }
        const failure& why = r.error();
        outcome["step"] = to_string(why.step);
        outcome["errno"] = why.error_number;
        outcome["object"] = why.object;
        outcome["message"] = why.message();
    }
    outcome["leftovers"] = leftovers_of(c) == before;
    outcome["others"] =
        !f.others_work || c.run({.program = "/bin/true"}).status == exit_status::exited(0);
    return outcome;
}

void check_outcome(const failing& f, const json& outcome) {
    INFO(f.what << ": " << outcome.dump(-1, ' ', true));
    REQUIRE(outcome.contains("step"));
    CHECK(outcome["step"] == to_string(f.at));
    CHECK(outcome["errno"] == f.error_number);
    if (f.object) CHECK(outcome["object"] == *f.object);
    CHECK(outcome["leftovers"] == true);
    CHECK(outcome["others"] == true);
    // A person reads the step in it, and the object when there is one.
    const std::string message = outcome["message"];
    CHECK(message.starts_with(to_string(f.at)));
    if (f.object) CHECK(message.find(*f.object) != std::string::npos);
}

void check_failing(const failing& f) {
    INFO(f.what << ", features forced off: " << f.features_off);
    const client c = f.denied.empty() ? launch_without(f.features_off)
                                      : launch_denying(f.denied, f.features_off);
    check_outcome(f, try_failing(c, f));
}

}  // namespace cleanfork::test
