#include "forkserver/daemon/config/read_template.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <optional>

#include "forkserver/daemon/config/nearest.hpp"
#include "forkserver/daemon/config/template_keys.hpp"
#include "ipc/base/typed_values.hpp"
#include "ipc/wire/limits.hpp"

namespace cleanfork::daemon {

namespace {

// Reads the values of one table. Each key has a function, which takes its value.
class template_reader {
public:
    template_reader(problem_list& problems, v1::AddTemplateRequest& out)
        : problems_(problems), out_(out), process_(*out.mutable_process()) {}

    void program(const toml::node& n) {
        const std::string path = text(n);
        if (path.find('/') != std::string::npos && path.front() != '/')
            wrong(n, "an absolute path, or a name to look for in PATH");
        program_ = path;
    }
    void args(const toml::node& n) { args_ = texts(n); }
    void argv0(const toml::node& n) { argv0_ = text(n); }
    void from(const toml::node& n) { out_.set_from(text(n)); }
    void init(const toml::node& n) { init_ = text(n); }
    void warm(const toml::node& n) {
        out_.set_warm(static_cast<std::uint32_t>(number(n, 0, ipc::k_max_warm)));
    }
    void leases(const toml::node& n) {
        out_.set_leases(static_cast<std::uint32_t>(number(n, 0, ipc::k_max_warm)));
    }
    void start_timeout(const toml::node& n) { out_.set_start_timeout_ms(milliseconds(n)); }
    void call_timeout(const toml::node& n) { out_.set_call_timeout_ms(milliseconds(n)); }
    void huge_pages(const toml::node& n) { huge_pages_ = flag(n); }
    void allow_fd(const toml::node& n) {
        for (const long long fd : numbers(n, ipc::k_max_target))
            out_.add_allowed_descriptors(static_cast<int>(fd));
    }
    void tolerate_unclean(const toml::node& n) { out_.set_tolerate_unclean(flag(n)); }

    void setenv(const toml::node& n);
    void unset(const toml::node& n) {
        for (const std::string& name : texts(n)) process_.mutable_environment()->add_unset(name);
    }
    void ignore_environment(const toml::node& n) {
        process_.mutable_environment()->set_clear(flag(n));
    }
    void chdir(const toml::node& n) { process_.set_cwd_path(absolute(n)); }
    void cgroup(const toml::node& n) { process_.set_cgroup_path(absolute(n)); }
    void setsid(const toml::node& n) {
        if (flag(n)) process_.set_process_group(v1::PROCESS_GROUP_SESSION);
    }
    void umask(const toml::node& n);
    void rlimit(const toml::node& n);
    void nice(const toml::node& n) { process_.set_nice(static_cast<int>(number(n, -20, 19))); }
    void cpus(const toml::node& n) {
        for (const long long cpu : numbers(n, ipc::k_max_cpus - 1))
            process_.add_cpus(static_cast<std::uint32_t>(cpu));
    }
    void oom_score_adj(const toml::node& n) {
        process_.set_oom_score_adj(static_cast<int>(number(n, -1000, 1000)));
    }
    void no_new_privs(const toml::node& n) { process_.set_no_new_privs(flag(n)); }

    // When all keys have been read: what they are together.
    void finish(const toml::key& name);

private:
    void wrong(const toml::node& n, const std::string& expected) {
        problems_.at(n.source(), "this is to be " + expected);
    }
    std::string text(const toml::node& n);
    std::string absolute(const toml::node& n);
    std::vector<std::string> texts(const toml::node& n);
    bool flag(const toml::node& n);
    long long number(const toml::node& n, long long least, long long most);
    std::vector<long long> numbers(const toml::node& n, long long most);
    std::uint32_t milliseconds(const toml::node& n);
    void finish_program();
    void finish_derived();
    [[nodiscard]] std::string refusal() const;

    problem_list& problems_;
    v1::AddTemplateRequest& out_;
    v1::SpawnRequest& process_;
    std::string program_, argv0_, init_;
    std::vector<std::string> args_;
    bool huge_pages_ = false;
    std::optional<std::string> tunables_;  // glibc's, as the table has them
};

struct key_row {
    ipc::option_words words;
    void (template_reader::*read)(const toml::node&);
};

using words = ipc::option_words;
namespace shared = ipc::template_words;

constexpr std::array<key_row, 24> k_keys{{
    {words{"program", "PATH", "What becomes the template; a name is looked for in PATH"},
     &template_reader::program},
    {words{"args", "[TEXT, ...]", "Arguments of the program, or of the initializer"},
     &template_reader::args},
    {words{"argv0", "NAME", "What the program sees as its own name"}, &template_reader::argv0},
    {shared::k_from, &template_reader::from},
    {shared::k_init, &template_reader::init},
    {shared::k_warm, &template_reader::warm},
    {shared::k_leases, &template_reader::leases},
    {shared::k_start_timeout, &template_reader::start_timeout},
    {shared::k_call_timeout, &template_reader::call_timeout},
    {shared::k_huge_pages, &template_reader::huge_pages},
    {words{shared::k_allow_fd.name, "[N, ...]",
           "Descriptors of its own that are harmless to share"},
     &template_reader::allow_fd},
    {shared::k_tolerate_unclean, &template_reader::tolerate_unclean},
    {words{"setenv", "{NAME = TEXT, ...}", "Variables, beside those of the forkserver"},
     &template_reader::setenv},
    {words{"unset", "[NAME, ...]", "Variables of the forkserver that it does not get"},
     &template_reader::unset},
    {words{"ignore-environment", "", "It gets no variable of the forkserver"},
     &template_reader::ignore_environment},
    {words{"chdir", "DIR", "Working directory (default: that of the forkserver)"},
     &template_reader::chdir},
    {words{"setsid", "", "Leader of a new session"}, &template_reader::setsid},
    {words{"umask", "OCTAL", "Like \"077\" (default: \"022\")"}, &template_reader::umask},
    {words{"cgroup", "DIR", "An existing cgroup v2 to be born in"}, &template_reader::cgroup},
    {words{"rlimit", "{NAME = LIMIT, ...}", "Like {nofile = 1024, as = \"2G\", core = \"0:1G\"}"},
     &template_reader::rlimit},
    {words{"nice", "N", "Niceness, -20 to 19"}, &template_reader::nice},
    {words{"cpus", "[N, ...]", "Processors it may use"}, &template_reader::cpus},
    {words{"oom-score-adj", "N", "How readily it is killed, -1000 to 1000"},
     &template_reader::oom_score_adj},
    {words{"no-new-privs", "", "Set-user-ID programs give it nothing"},
     &template_reader::no_new_privs},
}};

// ---- values ----------------------------------------------------------------

std::string template_reader::text(const toml::node& n) {
    const auto* const value = n.as_string();
    if (value == nullptr || value->get().empty() || value->get().find('\0') != std::string::npos ||
        value->get().size() > ipc::k_max_string) {
        wrong(n, "a text, not empty and without a NUL");
        return "?";
    }
    return value->get();
}

std::string template_reader::absolute(const toml::node& n) {
    std::string path = text(n);
    if (path.front() != '/' && n.is_string()) wrong(n, "an absolute path");
    return path;
}

std::vector<std::string> template_reader::texts(const toml::node& n) {
    std::vector<std::string> all;
    const auto* const list = n.as_array();
    if (list == nullptr) {
        wrong(n, "a list of texts, like [\"a\", \"b\"]");
        return all;
    }
    for (const toml::node& each : *list) {
        // An argument may be empty.
        const auto* const value = each.as_string();
        all.push_back(value != nullptr && value->get().empty() ? "" : text(each));
    }
    return all;
}

bool template_reader::flag(const toml::node& n) {
    if (const auto* const value = n.as_boolean()) return value->get();
    wrong(n, "true or false");
    return false;
}

long long template_reader::number(const toml::node& n, long long least, long long most) {
    if (const auto* const value = n.as_integer();
        value != nullptr && value->get() >= least && value->get() <= most)
        return value->get();
    wrong(n, "a number from " + std::to_string(least) + " to " + std::to_string(most));
    return least;
}

std::vector<long long> template_reader::numbers(const toml::node& n, long long most) {
    std::vector<long long> all;
    const auto* const list = n.as_array();
    if (list == nullptr) {
        wrong(n, "a list of numbers, like [0, 2]");
        return all;
    }
    for (const toml::node& each : *list) all.push_back(number(each, 0, most));
    return all;
}

// "1m" as on the command line; a number is seconds there too.
std::uint32_t template_reader::milliseconds(const toml::node& n) {
    using std::chrono::milliseconds;
    constexpr auto k_most = std::chrono::hours(24);
    std::chrono::nanoseconds time{-1};
    if (const auto* const value = n.as_string()) {
        if (const auto read = ipc::duration_of(value->get())) time = *read;
    } else if (const auto* const seconds = n.as_integer()) {
        if (seconds->get() >= 0 && seconds->get() <= std::chrono::seconds(k_most).count())
            time = std::chrono::seconds(seconds->get());
    }
    if (time.count() > 0 && time <= k_most)
        return static_cast<std::uint32_t>(std::chrono::ceil<milliseconds>(time).count());
    wrong(n, "a duration up to a day, like 30 or \"500ms\"");
    return 0;
}

// ---- keys that are more than one value -------------------------------------

void template_reader::setenv(const toml::node& n) {
    const auto* const variables = n.as_table();
    if (variables == nullptr) return wrong(n, "a table, like {LANG = \"C.UTF-8\"}");
    for (const auto& [name, value] : *variables) {
        if (name.str().empty() || name.str().find('=') != std::string_view::npos ||
            name.str().find('\0') != std::string_view::npos) {
            problems_.at(name.source(), "this is no name of a variable");
            continue;
        }
        const auto* const given = value.as_string();
        const std::string as_text = given != nullptr && given->get().empty() ? "" : text(value);
        if (name.str() == ipc::k_tunables) {
            tunables_ = as_text;  // which huge pages are beside
            continue;
        }
        process_.mutable_environment()->add_set(std::string(name.str()) + "=" + as_text);
    }
}

void template_reader::umask(const toml::node& n) {
    const auto* const value = n.as_string();
    const auto mask = value != nullptr ? ipc::umask_of(value->get()) : std::nullopt;
    if (!mask) return wrong(n, "an octal mask from \"0\" to \"777\", as a text");
    process_.set_umask(*mask);
}

void template_reader::rlimit(const toml::node& n) {
    const auto* const limits = n.as_table();
    if (limits == nullptr) return wrong(n, "a table, like {nofile = 1024, as = \"2G\"}");
    for (const auto& [name, value] : *limits) {
        const auto resource = ipc::limit_of(name.str());
        if (!resource) {
            problems_.at(name.source(),
                         "there is no such limit; the names are " + ipc::limit_names());
            continue;
        }
        std::string given = "?";
        if (const auto* const as_text = value.as_string()) given = as_text->get();
        if (const auto* const as_number = value.as_integer())
            given = std::to_string(as_number->get());
        const std::size_t colon = given.find(':');
        const auto soft = ipc::amount_of(given.substr(0, colon));
        const auto hard =
            colon == std::string::npos ? soft : ipc::amount_of(given.substr(colon + 1));
        if (!soft || !hard || *soft > *hard) {
            wrong(value, "SOFT or \"SOFT:HARD\", like 1024, \"2G\" or \"unlimited\"");
            continue;
        }
        v1::Rlimit& l = *process_.add_rlimits();
        l.set_resource(static_cast<std::uint32_t>(*resource) + 1);
        l.set_soft(*soft);
        l.set_hard(*hard);
    }
}

// ---- all together ----------------------------------------------------------

// Why the keys do not go together; empty: they do.
std::string template_reader::refusal() const {
    if (out_.from().empty()) {
        if (!init_.empty()) return "init is of a derived template: from names its base";
        if (program_.empty()) return "program is missing, or from and init";
        return {};
    }
    if (out_.from() == out_.name()) return "it cannot be derived from itself";
    if (init_.empty()) return "from needs init, an initializer of the base";
    if (!program_.empty() || !argv0_.empty()) return "a derived template is no program";
    if (huge_pages_) return "huge-pages: a derived template has the heap of its base";
    return {};
}

void template_reader::finish(const toml::key& name) {
    if (const std::string why = refusal(); !why.empty())
        return problems_.at(name.source(), "template " + std::string(name.str()) + ": " + why);
    // It is nobody's but the forkserver's.
    process_.set_as_forkserver(true);
    out_.from().empty() ? finish_program() : finish_derived();
    if (!tunables_ && !huge_pages_) return;
    if (!tunables_ && !process_.environment().clear())
        if (const char* const own = std::getenv(ipc::k_tunables.data())) tunables_ = own;
    const std::string given = tunables_.value_or("");
    process_.mutable_environment()->add_set(std::string(ipc::k_tunables) + "=" +
                                            (huge_pages_ ? ipc::with_huge_pages(given) : given));
}

void template_reader::finish_program() {
    v1::ExecTarget& exec = *process_.mutable_exec();
    program_.find('/') != std::string::npos ? exec.set_path(program_) : exec.set_search(program_);
    exec.add_argv(argv0_.empty() ? program_ : argv0_);
    for (const std::string& a : args_) exec.add_argv(a);
}

void template_reader::finish_derived() {
    v1::CallTarget& call = *process_.mutable_call();
    call.set_template_name(out_.from());
    call.set_entry(init_);
    for (const std::string& a : args_) call.add_arguments(a);
}

bool is_name(std::string_view name) {
    return !name.empty() && name.size() <= ipc::k_max_name &&
           std::none_of(name.begin(), name.end(),
                        [](char c) { return static_cast<unsigned char>(c) <= ' ' || c == 127; });
}

}  // namespace

std::span<const ipc::option_words> template_keys() {
    static const std::vector<ipc::option_words> all = [] {
        std::vector<ipc::option_words> list;
        for (const key_row& row : k_keys) list.push_back(row.words);
        return list;
    }();
    return all;
}

v1::AddTemplateRequest read_template(const toml::key& name, const toml::node& node,
                                     problem_list& problems) {
    v1::AddTemplateRequest request;
    request.set_name(std::string(name.str()));
    request.set_no_wait(true);
    if (!is_name(name.str()))
        problems.at(name.source(),
                    "a template's name has 1 to 255 characters, no blank or control character");
    const auto* const table = node.as_table();
    if (table == nullptr) {
        problems.at(node.source(),
                    "a template is a table: [template." + std::string(name.str()) + "]");
        return request;
    }
    template_reader reader(problems, request);
    const std::size_t before = problems.size();
    for (const auto& [key, value] : *table) {
        const std::string_view typed = key.str();
        const auto* const row = std::find_if(
            k_keys.begin(), k_keys.end(), [&](const key_row& r) { return r.words.name == typed; });
        if (row != k_keys.end()) {
            (reader.*(row->read))(value);
            continue;
        }
        nearest meant(typed);
        for (const key_row& r : k_keys) meant.add(r.words.name);
        problems.at(key.source(),
                    "unknown key \"" + std::string(typed) + "\" of a template" + meant.hint());
    }
    if (problems.size() == before) reader.finish(name);
    return request;
}

}  // namespace cleanfork::daemon
