// What a fuzz target begins with: real messages, written into its corpus at the start.
#pragma once

#include <cleanfork/v1/cleanfork.pb.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "forkserver/spawn/call_block.hpp"
#include "forkserver/template/order.hpp"
#include "ipc/wire/limits.hpp"

namespace cleanfork::fuzz {

// Writes seeds into the corpus: the first argument that is a directory.
inline void write_seeds(int argc, char** argv, const std::vector<std::string>& seeds) {
    for (int i = 1; i < argc; ++i) {
        if (argv[i][0] == '-' || !std::filesystem::is_directory(argv[i])) continue;
        for (std::size_t n = 0; n < seeds.size(); ++n)
            std::ofstream(std::filesystem::path(argv[i]) / ("seed-" + std::to_string(n)),
                          std::ios::binary)
                << seeds[n];
        return;
    }
}

// Ends the run with a report: a property that must hold does not.
inline void require(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "does not hold: %s\n", what);
    __builtin_trap();
}

inline v1::SpawnRequest true_program() {
    v1::SpawnRequest r;
    r.mutable_exec()->set_path("/bin/true");
    r.mutable_exec()->add_argv("true");
    return r;
}

// One with every field in use.
inline v1::SpawnRequest full_spawn() {
    v1::SpawnRequest r = true_program();
    r.mutable_environment()->set_clear(true);
    r.mutable_environment()->add_unset("HOME");
    r.mutable_environment()->add_set("PATH=/usr/bin:/bin");
    r.set_cwd_path("/");
    r.add_descriptors()->set_source_descriptor(1);
    r.mutable_descriptors(0)->set_target(5);
    r.add_listen_descriptors()->set_source_descriptor(2);
    r.mutable_listen_descriptors(0)->set_name("web");
    r.set_umask(077);
    r.set_process_group(v1::PROCESS_GROUP_SESSION);
    r.add_rlimits()->set_resource(8);
    r.mutable_rlimits(0)->set_soft(64);
    r.mutable_rlimits(0)->set_hard(64);
    r.set_nice(1);
    r.add_cpus(0);
    r.mutable_scheduling()->set_policy(1);
    r.set_oom_score_adj(100);
    r.mutable_groups();
    r.set_no_new_privs(true);
    r.set_parent_death_signal(9);
    r.mutable_lifetime()->set_signal(15);
    r.mutable_lifetime()->set_grace_ms(5);
    r.mutable_lifetime()->set_target(v1::SIGNAL_TARGET_GROUP);
    r.set_reply_hold_us(100);
    return r;
}

inline v1::SpawnRequest call(const char* of_template) {
    v1::SpawnRequest r;
    r.mutable_call()->set_template_name(of_template);
    r.mutable_call()->set_entry("entry");
    r.mutable_call()->add_arguments("argument");
    r.mutable_call()->set_payload("payload");
    return r;
}

// A call with its payload and its answer in descriptors, and one by name.
inline v1::SpawnRequest full_call() {
    v1::SpawnRequest r = call("e");
    r.mutable_call()->set_payload_descriptor(2);
    r.mutable_call()->set_result_descriptor(1);
    r.add_descriptors()->set_source_descriptor(1);
    r.mutable_descriptors(0)->set_target(3);
    r.mutable_descriptors(0)->set_name("name");
    r.set_umask(077);
    r.mutable_lifetime()->set_keep(true);
    return r;
}

inline v1::ClientMessage added_template(const char* name) {
    v1::ClientMessage m;
    v1::AddTemplateRequest& a = *m.mutable_add_template();
    a.set_name(name);
    *a.mutable_process() = true_program();
    a.set_warm(2);
    a.set_start_timeout_ms(1);
    a.set_call_timeout_ms(1);
    a.add_allowed_descriptors(5);
    return m;
}

// One of each kind that is about templates; "e" is the one that was forked early.
inline void add_template_messages(std::vector<v1::ClientMessage>& all) {
    all.push_back(added_template("t"));
    all.push_back(added_template("d"));
    all.back().mutable_add_template()->set_from("e");
    *all.back().mutable_add_template()->mutable_process() = call("e");
    for (const char* name : {"t", "e"}) *all.emplace_back().mutable_spawn() = call(name);
    *all.emplace_back().mutable_spawn() = full_call();
    all.back().add_descriptors(v1::DESCRIPTOR_PURPOSE_CHILD);
    all.back().add_descriptors(v1::DESCRIPTOR_PURPOSE_PAYLOAD);
    all.emplace_back().mutable_list_templates();
    all.emplace_back().mutable_reload_template()->set_name("t");
    all.back().mutable_reload_template()->set_no_wait(true);
    all.emplace_back().mutable_remove_template()->set_name("d");
}

struct template_packet {
    std::string bytes;
    unsigned descriptors = 0;
};

template <class T>
std::string bytes_of(const T& t) {
    return {reinterpret_cast<const char*>(&t), sizeof t};
}

// One of each kind that a template or its child tells; the first: it is ready.
inline std::vector<template_packet> template_packets() {
    v1::TemplateMessage ready, child_failed, failed;
    ready.mutable_ready()->add_entries("entry");
    ready.mutable_ready()->add_own_descriptors(3);
    ready.mutable_ready()->set_protocol(spawn::k_template_protocol);
    child_failed.mutable_child_failed()->set_sequence(2);
    child_failed.mutable_child_failed()->mutable_failure()->set_step(16);
    failed.mutable_failed()->set_step(60);
    using templates::report_kind;
    const templates::child_event started{.kind = report_kind::started, .sequence = 1};
    const templates::child_event parked{.kind = report_kind::parked, .sequence = 1};
    const templates::child_end ended{
        {.kind = report_kind::ended, .sequence = 1, .wait_status = 256}, {}};
    return {{ready.SerializeAsString()},
            {bytes_of(started), 1},
            {bytes_of(parked), 1},
            {child_failed.SerializeAsString()},
            {bytes_of(ended) + "what it threw"},
            {failed.SerializeAsString()}};
}

// One of each kind of request; the last ends the forkserver.
inline std::vector<v1::ClientMessage> messages() {
    std::vector<v1::ClientMessage> all(12);
    all[0].mutable_hello()->set_protocol(ipc::k_protocol_version);
    all[0].mutable_hello()->mutable_base()->add_environment("PATH=/usr/bin:/bin");
    *all[1].mutable_spawn() = true_program();
    *all[2].mutable_spawn() = full_spawn();
    for (int i = 0; i < 2; ++i) all[2].add_descriptors(v1::DESCRIPTOR_PURPOSE_CHILD);
    for (int i = 0; i < 3; ++i) *all[3].mutable_batch()->add_items() = true_program();
    all[4].mutable_signal()->set_child(1);
    all[4].mutable_signal()->set_signal(15);
    all[5].mutable_wait()->set_child(1);
    all[6].mutable_list();
    all[7].mutable_stats();
    all[8].mutable_cancel()->set_request_id(3);
    all[9].mutable_acknowledge();
    all[9].add_acknowledged(1);
    all[10].mutable_update_base()->mutable_base()->set_cwd_descriptor(1);
    all[10].add_descriptors(v1::DESCRIPTOR_PURPOSE_CWD);
    *all[11].mutable_spawn() = true_program();
    all[11].mutable_spawn()->mutable_exec()->set_path("/bin/sleep");
    all[11].mutable_spawn()->mutable_exec()->add_argv("1000");
    all[11].mutable_spawn()->mutable_lifetime()->set_keep(true);
    add_template_messages(all);
    all.emplace_back().mutable_shutdown();
    std::uint64_t id = 0;
    for (v1::ClientMessage& m : all) m.set_request_id(++id);
    return all;
}

}  // namespace cleanfork::fuzz
