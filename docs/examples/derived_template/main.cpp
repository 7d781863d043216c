// A base template with a table of 128 MiB, and two templates that are derived from
// it: forked from it, they share that table, and load another one each.
//
//     derived_template          prints what each of them holds, and checks answers
//
// Exits with 1 when an answer is wrong or the memory is not shared.
#include <cleanfork/client.hpp>
#include <cleanfork/template.hpp>
#include <cstdio>
#include <iostream>
#include <stdexcept>
#include <string>

namespace {

constexpr std::uint64_t k_table_kib = 128 * 1024;

bool good = true;

void ask(const cleanfork::client& client, const char* name, const char* entry,
         const std::string& number, const std::string& expected) {
    const auto r = client.run_call(name, entry, {}, {.args = {number}, .result = true});
    const std::string answer = r.status.success() ? r.result() : r.status.to_string();
    std::printf("%-10s %-9s %9s  %s\n", name, entry, number.c_str(), answer.c_str());
    good &= answer == expected;
}

// What a derived template has not: an exception of the entry comes back as text.
void ask_for_too_much(const cleanfork::client& client) {
    const auto r = client.run_call("base", "totient", {}, {.args = {"10"}});
    std::printf("%-10s %-9s %9s  %s\n", "base", "totient", "10", r.error.c_str());
    good &= !r.error.empty();
}

cleanfork::process_memory show(const cleanfork::client& client, const char* name) {
    const cleanfork::template_info info = client.template_info(name);
    const auto memory = info.current() ? info.current()->memory() : std::nullopt;
    if (!memory) throw std::runtime_error(std::string(name) + ": its memory cannot be read");
    const auto mib = [](std::uint64_t kib) { return static_cast<double>(kib) / 1024; };
    std::printf("%-10s %8.1f %8.1f %8.1f MiB   ready after %.2f s\n", name, mib(memory->rss_kib),
                mib(memory->pss_kib), mib(memory->private_dirty_kib),
                static_cast<double>(info.current()->initialization.count()) / 1e9);
    return *memory;
}

void run() {
    const cleanfork::client client = cleanfork::launch();
    client.add_template("base", cleanfork::template_options::self());
    client.add_template("totients", cleanfork::template_options::derived("base", "totients"));
    client.add_template("divisors", cleanfork::template_options::derived("base", "divisor_counts"));

    std::printf("%-10s %8s %8s %8s\n", "template", "resident", "PSS", "private");
    show(client, "base");
    for (const char* name : {"totients", "divisors"}) {
        const cleanfork::process_memory m = show(client, name);
        // All of the table is there, and none of it is its own.
        good &= m.rss_kib > k_table_kib && m.private_dirty_kib < k_table_kib / 2;
    }
    ask(client, "base", "factors", "33554430", "2 3 3 5 7 13 17 241");
    ask(client, "totients", "factors", "8388606", "2 3 23 89 683");
    ask(client, "totients", "totient", "1000000", "400000");
    ask(client, "divisors", "divisors", "7207200", "432");
    ask_for_too_much(client);
}

}  // namespace

int main(int argc, char** argv) {
    cleanfork::template_main(argc, argv);  // does not return in a template
    try {
        run();
    } catch (const std::exception& e) {
        std::cerr << "derived_template: " << e.what() << '\n';
        return 1;
    }
    return good ? 0 : 1;
}
