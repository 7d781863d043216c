// The members of client that are about templates and their entries.
#include "client/src/requests/simple_request.hpp"
#include "client/src/requests/template_request.hpp"
#include "client/src/run/async_run.hpp"

namespace cleanfork {

using namespace detail;

// ---- calls -----------------------------------------------------------------

result<process> client::try_call(std::string_view template_name, std::string_view entry,
                                 const payload& p, const call_options& options, timeout t) const {
    if (!connection_) return not_connected();
    const deadline d = deadline_after(t);
    outgoing m;
    auto convert = prepare_call(m, {template_name, entry, p, options}, d);
    if (!convert) return convert.error();
    return detail::call(*connection_, m, std::move(*convert), d);
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
    if (!connection_) return not_connected();
    const deadline d = deadline_after(t);
    outgoing m;
    auto convert = prepare_run(m, {template_name, entry, p, options}, d);
    if (!convert) return convert.error();
    return detail::run(*connection_, m, std::move(*convert), options.attributes, {}, d);
}

call_result client::run_call(std::string_view template_name, std::string_view entry,
                             const payload& p, const call_options& options, timeout t) const {
    return std::move(try_run_call(template_name, entry, p, options, t)).value();
}

void client::start_call(std::string_view template_name, std::string_view entry, const payload& p,
                        const call_options& options, spawn_handler h) const {
    outgoing m;
    auto convert =
        connection_ ? prepare_call(m, {template_name, entry, p, options}, {}) : not_connected();
    if (!convert)
        return refuse<to_process>(io_executor_for(get_executor(), h), std::move(h),
                                  convert.error());
    start(*connection_, m, std::move(*convert), std::move(h));
}

void client::start_run_call(std::string_view template_name, std::string_view entry,
                            const payload& p, const call_options& options,
                            call_run_handler h) const {
    if (!connection_) {
        completion<call_run_handler> done(io_executor_for({}, h), std::move(h));
        return std::move(done)(exception_of(not_connected()), call_result());
    }
    start_async_run(*connection_, {template_name, entry, p, options}, std::move(h));
}

// ---- templates -------------------------------------------------------------

namespace {

void fill_reload(outgoing& m, std::string_view name, bool wait) {
    v1::ReloadTemplateRequest& r = *m->mutable_reload_template();
    r.set_name(name.data(), name.size());
    r.set_no_wait(!wait);
}

void fill_remove(outgoing& m, std::string_view name) {
    m->mutable_remove_template()->set_name(name.data(), name.size());
}

void fill_list(outgoing& m, std::string_view name) {
    m->mutable_list_templates()->set_name(name.data(), name.size());
}

}  // namespace

result<template_info> client::try_add_template(std::string_view name,
                                               const template_options& options, timeout t) const {
    outgoing m;
    if (auto r = translate_template(name, options, *m->mutable_add_template(), m.descriptors); !r)
        return r.error();
    return simple_call<to_template>(connection_, m, t);
}

template_info client::add_template(std::string_view name, const template_options& options,
                                   timeout t) const {
    return std::move(try_add_template(name, options, t)).value();
}

std::vector<template_info> client::templates(timeout t) const {
    outgoing m;
    m->mutable_list_templates();
    return simple_call<to_templates>(connection_, m, t).value();
}

result<template_info> client::try_template_info(std::string_view name, timeout t) const {
    outgoing m;
    fill_list(m, name);
    return simple_call(connection_, m, t, to_template_info{std::string(name)});
}

template_info client::template_info(std::string_view name, timeout t) const {
    return std::move(try_template_info(name, t)).value();
}

result<template_info> client::try_reload_template(std::string_view name, bool wait,
                                                  timeout t) const {
    outgoing m;
    fill_reload(m, name, wait);
    return simple_call<to_template>(connection_, m, t);
}

template_info client::reload_template(std::string_view name, bool wait, timeout t) const {
    return std::move(try_reload_template(name, wait, t)).value();
}

void client::remove_template(std::string_view name, timeout t) const {
    outgoing m;
    fill_remove(m, name);
    simple_call<to_nothing>(connection_, m, t).value();
}

void client::start_add_template(std::string_view name, const template_options& options,
                                template_handler h) const {
    outgoing m;
    if (auto r = translate_template(name, options, *m->mutable_add_template(), m.descriptors); !r)
        return refuse<to_template>(io_executor_for(get_executor(), h), std::move(h), r.error());
    simple_start<to_template>(connection_, m, std::move(h));
}

void client::start_templates(templates_handler h) const {
    outgoing m;
    m->mutable_list_templates();
    simple_start<to_templates>(connection_, m, std::move(h));
}

void client::start_template_info(std::string_view name, template_handler h) const {
    outgoing m;
    fill_list(m, name);
    simple_start(connection_, m, std::move(h), to_template_info{std::string(name)});
}

void client::start_reload_template(std::string_view name, bool wait, template_handler h) const {
    outgoing m;
    fill_reload(m, name, wait);
    simple_start<to_template>(connection_, m, std::move(h));
}

void client::start_remove_template(std::string_view name, void_handler h) const {
    outgoing m;
    fill_remove(m, name);
    simple_start<to_nothing>(connection_, m, std::move(h));
}

}  // namespace cleanfork
