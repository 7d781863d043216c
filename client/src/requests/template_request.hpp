// Requests about templates, and what becomes of their replies.
#pragma once

#include "client/src/requests/operations.hpp"
#include "client/src/requests/translate.hpp"

namespace cleanfork::detail {

// Fills `request` and `descriptors` from `options`.
result<void> translate_template(std::string_view name, const template_options& options,
                                v1::AddTemplateRequest& request, descriptor_list& descriptors);

// Adds glibc's tunable to those that `env`, or the session's base below it, sets.
void request_huge_pages(environment& env);

// A template that was added or reloaded.
struct to_template {
    using value = template_info;
    static constexpr bool cancellable = false;
    result<value> operator()(connection&, reply&& r) const {
        if (r.message.has_add_template()) return template_of(r.message.add_template().info());
        if (r.message.has_reload_template()) return template_of(r.message.reload_template().info());
        return unexpected_reply();
    }
    static void discard(result<value>&) noexcept {}
    static failure expired() {
        return ipc::fail(step::template_start, ETIMEDOUT, {},
                         "it is not ready yet; its start goes on");
    }
};

struct to_templates {
    using value = std::vector<template_info>;
    static constexpr bool cancellable = false;
    result<value> operator()(connection&, reply&& r) const {
        if (!r.message.has_list_templates()) return unexpected_reply();
        value all;
        for (const v1::TemplateInfo& t : r.message.list_templates().templates())
            all.push_back(template_of(t));
        return all;
    }
    static void discard(result<value>&) noexcept {}
    static failure expired() { return to_children::expired(); }
};

// The one that was asked for by name.
struct to_template_info {
    using value = template_info;
    static constexpr bool cancellable = false;
    std::string name{};
    result<value> operator()(connection& c, reply&& r) const {
        auto all = to_templates{}(c, std::move(r));
        if (!all) return all.error();
        if (all->empty())
            return ipc::fail(step::template_name, ENOENT, name, "there is no such template");
        return std::move(all->front());
    }
    static void discard(result<value>&) noexcept {}
    static failure expired() { return to_children::expired(); }
};

}  // namespace cleanfork::detail
