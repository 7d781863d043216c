// The members of client that are about templates and their entries.
#include "client/src/requests/async_call.hpp"
#include "client/src/requests/blocking_call.hpp"
#include "client/src/requests/leased_call.hpp"
#include "client/src/requests/spawn_requests.hpp"
#include "client/src/requests/template_requests.hpp"
#include "client/src/run/async_run.hpp"
#include "client/src/run/run.hpp"

namespace cleanfork {

using namespace detail;

// ---- calls -----------------------------------------------------------------

result<process> client::try_call(std::string_view template_name, std::string_view entry,
                                 const payload& p, const call_options& options, timeout t) const {
    return call_entry(connection_, t, {template_name, entry, p, options});
}

process client::call(std::string_view template_name, std::string_view entry, const payload& p,
                     const call_options& options, timeout t) const {
    return std::move(try_call(template_name, entry, p, options, t)).value();
}

process client::call(std::string_view template_name, std::string_view entry, const payload& p,
                     const call_options& options, boost::system::error_code& ec, timeout t) const {
    auto r = try_call(template_name, entry, p, options, t);
    ec = r ? boost::system::error_code() : make_error_code(r.error());
    return r ? std::move(*r) : process();
}

result<call_result> client::try_run_call(std::string_view template_name, std::string_view entry,
                                         const payload& p, const call_options& options,
                                         timeout t) const {
    return detail::run(connection_, entry_run{{template_name, entry, p, options}}, t);
}

call_result client::run_call(std::string_view template_name, std::string_view entry,
                             const payload& p, const call_options& options, timeout t) const {
    return std::move(try_run_call(template_name, entry, p, options, t)).value();
}

void client::start_call(std::string_view template_name, std::string_view entry, const payload& p,
                        const call_options& options, spawn_handler h) const {
    start<spawn_request>(connection_, std::move(h), entry_call{template_name, entry, p, options});
}

void client::start_run_call(std::string_view template_name, std::string_view entry,
                            const payload& p, const call_options& options,
                            call_run_handler h) const {
    start_async_run(connection_, entry_run{{template_name, entry, p, options}}, std::move(h));
}

// ---- templates -------------------------------------------------------------

namespace {

reload_template_request::answer answer_when(bool wait) {
    using answer = reload_template_request::answer;
    return wait ? answer::when_ready : answer::at_once;
}

}  // namespace

result<template_info> client::try_add_template(std::string_view name,
                                               const template_options& options, timeout t) const {
    return ask<add_template_request>(connection_, t, name, options);
}

template_info client::add_template(std::string_view name, const template_options& options,
                                   timeout t) const {
    return std::move(try_add_template(name, options, t)).value();
}

std::vector<template_info> client::templates(timeout t) const {
    return ask<list_templates_request>(connection_, t).value();
}

result<template_info> client::try_template_info(std::string_view name, timeout t) const {
    return ask<template_info_request>(connection_, t, name);
}

template_info client::template_info(std::string_view name, timeout t) const {
    return std::move(try_template_info(name, t)).value();
}

result<template_info> client::try_reload_template(std::string_view name, bool wait,
                                                  timeout t) const {
    return ask<reload_template_request>(connection_, t, name, answer_when(wait));
}

template_info client::reload_template(std::string_view name, bool wait, timeout t) const {
    return std::move(try_reload_template(name, wait, t)).value();
}

void client::remove_template(std::string_view name, timeout t) const {
    ask<remove_template_request>(connection_, t, name).value();
}

void client::start_add_template(std::string_view name, const template_options& options,
                                template_handler h) const {
    start<add_template_request>(connection_, std::move(h), name, options);
}

void client::start_templates(templates_handler h) const {
    start<list_templates_request>(connection_, std::move(h));
}

void client::start_template_info(std::string_view name, template_handler h) const {
    start<template_info_request>(connection_, std::move(h), name);
}

void client::start_reload_template(std::string_view name, bool wait, template_handler h) const {
    start<reload_template_request>(connection_, std::move(h), name, answer_when(wait));
}

void client::start_remove_template(std::string_view name, void_handler h) const {
    start<remove_template_request>(connection_, std::move(h), name);
}

}  // namespace cleanfork
