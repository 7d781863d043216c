// Requests about templates.
#pragma once

#include "client/src/requests/request.hpp"

namespace cleanfork::detail {

// The start of a template, of which the outcome can be awaited.
struct template_start_request : plain_request<template_info> {
    static failure expired();
};

struct add_template_request : template_start_request {
    static result<add_template_request> fill(outgoing& m, const deadline& d, std::string_view name,
                                             const template_options& options);
    static result<value> convert(connection& c, reply&& r);
};

struct reload_template_request : template_start_request {
    enum class answer { at_once, when_ready };
    static result<reload_template_request> fill(outgoing& m, const deadline& d,
                                                std::string_view name, answer when);
    static result<value> convert(connection& c, reply&& r);
};

struct remove_template_request : plain_request<void> {
    static result<remove_template_request> fill(outgoing& m, const deadline& d,
                                                std::string_view name);
    static result<void> convert(connection& c, reply&& r);
};

struct list_templates_request : plain_request<std::vector<template_info>> {
    static result<list_templates_request> fill(outgoing& m, const deadline& d);
    static result<value> convert(connection& c, reply&& r);
};

// The one of a name.
struct template_info_request : plain_request<template_info> {
    static result<template_info_request> fill(outgoing& m, const deadline& d,
                                              std::string_view name);
    result<value> convert(connection& c, reply&& r) const;

    std::string name{};
};

}  // namespace cleanfork::detail
