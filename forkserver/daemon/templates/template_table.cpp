#include "forkserver/daemon/templates/template_table.hpp"

#include <fcntl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cassert>
#include <csignal>
#include <functional>

#include "forkserver/daemon/loop/boundary.hpp"
#include "ipc/base/fd.hpp"
#include "ipc/base/process_ref.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/limits.hpp"
#include "ipc/wire/packet.hpp"

namespace cleanfork::daemon {

namespace {

// A template whose caller was something else than the forkserver is that too, and its children
// cannot become what another caller is. Of one that is as the forkserver they can.
bool is_of_other_rights(const template_spec& t, const v1::Caller& caller, bool as_forkserver) {
    return t.process.caller().has_rights() && !as_forkserver &&
           t.process.caller().rights().SerializeAsString() != caller.rights().SerializeAsString();
}

failure other_rights(const std::string& name) {
    return ipc::fail(step::identity, EPERM, name,
                     "the template was added by a caller with other rights than this one: add it "
                     "again");
}

using std::chrono::milliseconds;

constexpr milliseconds k_sweep{100};
// Pools are filled when a child has ended, or this long after one began: a template that
// forks tells of no end, and most calls that are waited for are shorter.
constexpr milliseconds k_idle{4};
constexpr milliseconds k_between{1};  // calls pass from one fork of a pool to the next

}  // namespace

template_table::template_table(event_loop& io, spawn::launcher& launcher, child_table& children,
                               births& begin, leases& out, logger& log, template_table_owner& owner)
    : tools_{io, launcher, children, begin, log},
      leases_(out),
      owner_(owner),
      sweep_(io, "deadlines of templates", [this] { sweep(); }),
      refill_(io, "pools of templates", [this] { refill(); }) {}

// ---- requests --------------------------------------------------------------

result<void> template_table::add(v1::AddTemplateRequest& r, std::vector<int> purposes,
                                 spawn::shared_descriptors descriptors,
                                 std::shared_ptr<const spawn::session_base> base,
                                 session_id session, request_id request) {
    auto spec = spec_of(r, std::move(purposes), std::move(descriptors), std::move(base), session);
    if (!spec) return spec.error();
    v1::ServerMessage reply;
    reply.set_request_id(request.value());
    reply.mutable_add_template();
    const auto there = templates_.find(r.name());
    const bool known = there != templates_.end();
    if (r.unless_there() && known && there->second->join(session, reply, r.no_wait())) return {};
    if (!known && templates_.size() >= ipc::k_max_templates)
        return ipc::fail(step::quota, EDQUOT, "templates",
                         "RESOURCE_EXHAUSTED: at most " + std::to_string(ipc::k_max_templates));
    named_template& t = named(r.name());
    t.start(std::move(*spec), session, std::move(reply));
    if (r.no_wait()) t.settle({});
    return {};
}

result<void> template_table::add_early(const std::string& name, int pid, unique_fd control) {
    return named(name).take_early(early_spec(name), pid, std::move(control));
}

result<void> template_table::reload(const v1::ReloadTemplateRequest& r, session_id session,
                                    request_id request) {
    const auto at = templates_.find(r.name());
    if (at == templates_.end()) return unknown(r.name());
    named_template& t = *at->second;
    if (t.spec().early)
        return ipc::fail(step::template_name, ENOTSUP, r.name(),
                         "it was forked from a running program and cannot be started again");
    if (!r.as_forkserver() && t.spec().process.caller().rights().SerializeAsString() !=
                                  r.caller().rights().SerializeAsString())
        return other_rights(r.name());
    v1::ServerMessage reply;
    reply.set_request_id(request.value());
    reply.mutable_reload_template();
    t.restart(session, std::move(reply));
    if (r.no_wait()) t.settle({});
    return {};
}

result<void> template_table::remove(const std::string& name) {
    const auto at = templates_.find(name);
    if (at == templates_.end()) return unknown(name);
    leaving_.push_back(std::move(at->second));
    templates_.erase(at);
    leaving_.back()->leave(ipc::fail(step::template_name, ECANCELED, name, "it was removed"));
    tools_.log.info("template_removed", {{"template", name}});
    on_chores();
    return {};
}

result<void> template_table::list(const std::string& name, v1::ListTemplatesReply& out) const {
    if (!name.empty() && !templates_.contains(name)) return unknown(name);
    for (const auto& [n, t] : templates_)
        if (name.empty() || n == name) t->to_wire(*out.add_templates());
    return {};
}

failure template_table::unknown(const std::string& name) const {
    std::string known;
    for (const auto& [n, t] : templates_) known += (known.empty() ? "" : ", ") + n;
    return ipc::fail(step::template_name, ENOENT, name,
                     known.empty() ? "the forkserver has no templates"
                                   : "there is no template of that name; there are: " + known);
}

named_template& template_table::named(const std::string& name) {
    auto at = templates_.find(name);
    if (at == templates_.end()) {
        auto t =
            std::make_unique<named_template>(tools_, static_cast<named_template_owner&>(*this));
        at = templates_.emplace(name, std::move(t)).first;
    }
    return *at->second;
}

std::vector<named_template*> template_table::all() const {
    std::vector<named_template*> those;
    for (const auto& [name, t] : templates_) those.push_back(t.get());
    for (const auto& t : leaving_) those.push_back(t.get());
    return those;
}

generation* template_table::find(generation_id id) const {
    for (const named_template* t : all())
        if (generation* g = t->find(id)) return g;
    return nullptr;
}

// ---- calls -----------------------------------------------------------------

void template_table::call(queued_spawn q) {
    const auto at = templates_.find(q.request->call().template_name());
    if (at == templates_.end()) {
        const failure why = unknown(q.request->call().template_name());
        return owner_.on_call_failed(std::move(q), why);
    }
    if (is_of_other_rights(at->second->spec(), q.request->caller(), q.request->as_forkserver()))
        return owner_.on_call_failed(std::move(q), other_rights(at->first));
    if (q.asks_for_lease())
        if (const auto given = give_lease(*at->second, q); !given)
            return owner_.on_call_failed(std::move(q), given.error());
    at->second->call(std::move(q));
    on_deadline();
}

// Nobody waits for one: what cannot be had at once is not asked for now.
result<void> template_table::give_lease(const named_template& t, queued_spawn& q) {
    const auto refused = [&](int error_number, const char* why) {
        return ipc::fail(step::quota, error_number, t.spec().name, why);
    };
    const generation* from = t.current();
    if (from == nullptr) return refused(EAGAIN, "it has no child to lease now");
    if (t.spec().leases == 0) return refused(ENOTSUP, "it leases no children");
    auto place = leases_.place(from->id(), q.session, t.spec().leases);
    if (!place) return refused(EDQUOT, "as many of its children as it may lease are leased");
    // What the child could say has another way: nothing comes into the end that is kept here.
    auto pair = ipc::seqpacket_pair();
    if (!pair) return pair.error();
    if (::shutdown(pair->first.get(), SHUT_RD) != 0 || ::fcntl(pair->second.get(), F_SETFL, 0) != 0)
        return refused(errno, "its channel could not be made");
    if (const int e = ipc::tell_senders(pair->second.get()))
        return refused(e, "its channel could not be made");
    q.lease.emplace();
    q.lease->place = std::move(*place);
    q.lease->channel = tools_.launcher.own_descriptor(std::move(pair->first));
    q.lease->end_of_child = std::move(pair->second);
    return {};
}

void template_table::call_began(const std::string& name) {
    if (const auto at = templates_.find(name); at != templates_.end()) at->second->call_began();
}

result<void> template_table::on_derive(const std::string& base, queued_spawn q) {
    const auto at = templates_.find(base);
    if (at == templates_.end()) return unknown(base);
    if (is_of_other_rights(at->second->spec(), q.request->caller(), q.request->as_forkserver()))
        return other_rights(base);
    at->second->call(std::move(q));
    on_deadline();
    return {};
}

std::vector<queued_spawn> template_table::take_back(session_id session, request_id request) {
    std::vector<queued_spawn> taken;
    for (named_template* t : all())
        for (queued_spawn& q : t->take_back(session, request)) taken.push_back(std::move(q));
    return taken;
}

void template_table::session_is_over(session_id session) {
    std::vector<std::string> owned;
    for (const auto& [name, t] : templates_)
        if (t->spec().owner == session) owned.push_back(name);
    leases_.revoke(session);
    for (named_template* t : all()) t->session_is_over(session);
    for (const std::string& name : owned) (void)remove(name);
}

void template_table::on_settled(session_id session, v1::ServerMessage reply) {
    owner_.on_template_settled(session, std::move(reply));
}

// ---- children --------------------------------------------------------------

child_id template_table::on_started(generation_id forked_by, queued_spawn q,
                                    ipc::process_ref process) {
    if (!q.becomes) return owner_.on_call_started(std::move(q), forked_by, std::move(process));
    generation* made = find(q.becomes);
    if (made == nullptr) {
        process.signal(SIGKILL);
        return {};
    }
    child_origin origin;
    origin.command = spawn::command_of(*q.request);
    origin.process_of = made->id();
    origin.forked_by = forked_by;
    const auto added = tools_.children.add(
        std::move(origin), tools_.launcher.own_process(std::move(process)), ipc::monotonic_ns());
    assert(added);  // the child of a template is always taken in
    made->process_began((*added)->process);
    return (*added)->id;
}

void template_table::on_call_failed(queued_spawn q, const failure& why) {
    if (!q.becomes) return owner_.on_call_failed(std::move(q), why);
    if (generation* made = find(q.becomes)) made->fail(why);
}

bool template_table::on_ended(child_id id, child_exit end) {
    child* c = tools_.children.find(id);
    if (c == nullptr) return true;
    const bool done = tools_.children.ended(*c, std::move(end));
    child_has_ended_ = child_has_ended_ || done;
    return done;
}

void template_table::on_adopted(child_id id) {
    if (child* c = tools_.children.find(id)) tools_.children.adopt(*c);
}

void template_table::on_not_begun(generation_id id, const failure& why) {
    if (generation* g = find(id)) g->fail(why);
    on_chores();
}

void template_table::process_ended(generation_id id, pid_t pid, int wait_status) {
    tools_.begin.settle(pid);
    bounded(tools_.io, "end of a template", [&] {
        insist(tools_.io, "end of a template", [&] {
            if (generation* g = find(id)) g->process_ended(wait_status);
        });
    });
    on_chores();
}

void template_table::child_ended(generation_id from, child_id child) {
    insist(tools_.io, "end of a call", [&] {
        if (generation* g = find(from)) g->forget_child(child);
    });
    on_chores();
}

// ---- chores ----------------------------------------------------------------

// Not inside a generation's own call, which must not be dropped there.
void template_table::on_chores() {
    if (chores_due_ || closed_) return;
    post_bounded(tools_.io, "templates", [this] {
        chores_due_ = false;
        insist(tools_.io, "templates", [this] { do_chores(); });
    });
    chores_due_ = true;
}

void template_table::do_chores() {
    for (named_template* t : all()) t->clean_up();
    std::erase_if(leaving_, [](const auto& t) { return t->over(); });
    on_deadline();
    const bool wanting = std::any_of(templates_.begin(), templates_.end(),
                                     [](const auto& t) { return t.second->spec().warm != 0; });
    const bool at_once = std::exchange(child_has_ended_, false);
    if (wanting) refill_.set_in(at_once ? milliseconds(0) : k_idle);
}

// One at a time: a call that comes meanwhile waits for one fork at most.
void template_table::refill() {
    if (closed_) return;
    bool more = false;
    for (const auto& [name, t] : templates_) more |= t->refill();
    on_deadline();  // a fork that was ordered is waited for
    if (more) refill_.set_in(k_between);
}

void template_table::on_deadline() {
    if (sweep_.is_set() || closed_) return;
    const std::vector<named_template*> those = all();
    if (std::any_of(those.begin(), those.end(), std::mem_fn(&named_template::has_deadlines)))
        sweep_.set_in(k_sweep);
}

void template_table::sweep() {
    if (closed_) return;
    const auto now = generation::clock::now();
    for (named_template* t : all()) t->sweep(now);
    on_chores();  // a pool may be filled again
    on_deadline();
}

void template_table::shut_down(const failure& why) {
    leases_.revoke_all();
    for (named_template* t : all()) t->stop(why);
    // Of a call that has not begun, the child is killed: nobody would end it later.
    for (queued_spawn& q : take_back({}, {})) owner_.on_call_failed(std::move(q), why);
}

void template_table::kill_all() {
    closed_ = true;
    for (named_template* t : all()) t->kill();
}

}  // namespace cleanfork::daemon
