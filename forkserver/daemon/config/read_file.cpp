#include "forkserver/daemon/config/read_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cleanfork/unique_fd.hpp>
#include <functional>
#include <set>
#include <stdexcept>

#include "forkserver/daemon/config/nearest.hpp"
#include "forkserver/daemon/config/read_template.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::daemon {

namespace {

constexpr std::size_t k_largest_file = 1024 * 1024;
constexpr std::string_view k_templates = "template";

file_problems unreadable(const std::string& path, int error_number, const char* detail = "") {
    return {{ipc::fail(step::launch, error_number, path, detail).message()}};
}

boost::system::result<std::string, file_problems> text_of(const std::string& path) {
    // A FIFO would be waited for; of a regular file O_NONBLOCK changes nothing.
    const unique_fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    if (!file) return unreadable(path, errno);
    struct stat st {};
    if (::fstat(file.get(), &st) != 0) return unreadable(path, errno);
    if (!S_ISREG(st.st_mode)) return unreadable(path, EINVAL, "it is no regular file");
    std::string text;
    for (std::string chunk(64 * 1024, '\0');;) {
        const ssize_t n =
            ipc::retry([&] { return ::read(file.get(), chunk.data(), chunk.size()); });
        if (n < 0) return unreadable(path, errno);
        if (n == 0) return text;
        text.append(chunk, 0, static_cast<std::size_t>(n));
        if (text.size() > k_largest_file)
            return unreadable(path, EFBIG, "it is larger than a megabyte");
    }
}

// The place of a key, if any, that is no setting of the file.
void unknown_key(const toml::key& key, problem_list& problems) {
    nearest meant(key.str());
    for (const setting& s : all_settings()) meant.add(s.name);
    meant.add(k_templates);
    problems.at(key.source(), "unknown key \"" + std::string(key.str()) + "\"" + meant.hint());
}

void read_setting(const setting& s, const toml::node& node, settings& into,
                  problem_list& problems) {
    const bool counts = std::holds_alternative<std::size_t quotas::*>(s.place);
    std::string value;
    if (const auto* const number = node.as_integer(); counts && number != nullptr)
        value = std::to_string(number->get());
    if (const auto* const text = node.as_string(); !counts && text != nullptr) value = text->get();
    if (const std::string expected = take(s, value, into); !expected.empty())
        problems.at(node.source(), "this is to be " + expected);
    else if (s.name == "socket" && value.front() != '/')
        problems.at(node.source(), "this is to be an absolute path");
}

void read_templates(const toml::node& node, settings& into, problem_list& problems) {
    const auto* const tables = node.as_table();
    if (tables == nullptr)
        return problems.at(node.source(), "templates are tables: [template.NAME]");
    for (const auto& [name, value] : *tables)
        into.templates.emplace(std::string(name.str()), read_template(name, value, problems));
    if (into.templates.size() > ipc::k_max_templates)
        problems.at(node.source(),
                    "there are at most " + std::to_string(ipc::k_max_templates) + " templates");
    // What one is derived from must be there before it, so in the end something from nothing.
    for (const auto& [name, value] : *tables) {
        std::set<std::string> seen;
        std::string at(name.str());
        for (auto t = into.templates.find(at); t != into.templates.end() && !at.empty();
             t = into.templates.find(at)) {
            if (!seen.insert(at).second) {
                problems.at(name.source(), "it is derived from itself, by way of others");
                break;
            }
            at = t->second.from();
        }
    }
}

}  // namespace

std::vector<std::string> problem_list::lines() {
    std::stable_sort(all_.begin(), all_.end(), [](const problem& a, const problem& b) {
        return std::pair(a.line, a.column) < std::pair(b.line, b.column);
    });
    std::vector<std::string> texts;
    for (const problem& p : all_)
        texts.push_back(file_ + ":" + std::to_string(p.line) + ":" + std::to_string(p.column) +
                        ": " + p.why);
    return texts;
}

void throw_exception_from_error(const file_problems& p, const boost::source_location&) {
    throw std::invalid_argument(p.lines.front());
}

boost::system::result<settings, file_problems> parse_settings(const std::string& path,
                                                              std::string_view text) {
    problem_list problems(path);
    settings all;
    const toml::parse_result parsed = toml::parse(text, path);
    if (!parsed) {
        problems.at(parsed.error().source(), std::string(parsed.error().description()));
        return file_problems{problems.lines()};
    }
    for (const auto& [key, node] : parsed.table()) {
        const auto known = all_settings();
        const std::string_view name = key.str();
        const auto found = std::find_if(known.begin(), known.end(),
                                        [&](const setting& s) { return s.name == name; });
        if (found != known.end())
            read_setting(*found, node, all, problems);
        else if (name == k_templates)
            read_templates(node, all, problems);
        else
            unknown_key(key, problems);
    }
    if (problems.size() == 0) return all;
    return file_problems{problems.lines()};
}

boost::system::result<settings, file_problems> read_settings(const std::string& path) {
    const auto text = text_of(path);
    if (!text) return text.error();
    return parse_settings(path, *text);
}

}  // namespace cleanfork::daemon
