#include "forkserver/daemon/file_templates.hpp"

#include <unistd.h>

#include <algorithm>
#include <vector>

namespace cleanfork::daemon {

namespace {

// How many templates are between it and a program.
std::size_t depth_of(const v1::AddTemplateRequest& t, const file_templates::definitions& all) {
    std::size_t depth = 0;
    for (auto base = all.find(t.from()); base != all.end(); base = all.find(base->second.from()))
        if (++depth > all.size()) break;
    return depth;
}

// What another is derived from comes before it.
std::vector<const v1::AddTemplateRequest*> bases_first(const file_templates::definitions& all) {
    std::vector<std::pair<std::size_t, const v1::AddTemplateRequest*>> list;
    for (const auto& [name, t] : all) list.emplace_back(depth_of(t, all), &t);
    std::stable_sort(list.begin(), list.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
    std::vector<const v1::AddTemplateRequest*> ordered;
    ordered.reserve(list.size());
    for (const auto& [depth, t] : list) ordered.push_back(t);
    return ordered;
}

}  // namespace

void file_templates::apply(const definitions& wanted) {
    std::map<std::string, std::string> texts;
    for (const auto& [name, t] : wanted) texts.emplace(name, t.SerializeAsString());
    const auto ordered = bases_first(wanted);
    const auto before = std::exchange(started_, std::move(texts));
    for (const auto& [name, text] : before)
        // A client may have removed it.
        if (!started_.contains(name)) (void)templates_.remove(name);
    for (const v1::AddTemplateRequest* t : ordered) {
        const auto known = before.find(t->name());
        const bool same = known != before.end() && known->second == started_[t->name()];
        if (same && templates_.has(t->name())) continue;
        if (auto begun = start(*t); !begun)
            core_.log.error("template_failed",
                            {{"template", t->name()}, {"why", begun.error().message()}});
    }
}

result<void> file_templates::start(const v1::AddTemplateRequest& definition) {
    if (auto ready = orphans_.adopt_from_now_on(); !ready) return ready;
    if (!base_) {
        auto own = spawn::base_for_clients(core_.closing);
        for (char** e = environ; e != nullptr && *e != nullptr; ++e)
            own->environment.strings.emplace_back(*e);
        own->environment.seal();
        base_ = std::move(own);
    }
    v1::AddTemplateRequest request = definition;
    return templates_.add(request, {}, spawn::share({}, core_.closing), base_, {}, {});
}

}  // namespace cleanfork::daemon
