#include "client/src/requests/template_requests.hpp"

#include "client/src/connection/convert.hpp"
#include "client/src/requests/template_options.hpp"

namespace cleanfork::detail {

failure template_start_request::expired() {
    return ipc::fail(step::template_start, ETIMEDOUT, {}, "it is not ready yet; its start goes on");
}

result<add_template_request> add_template_request::fill(outgoing& m, const deadline&,
                                                        std::string_view name,
                                                        const template_options& options) {
    if (auto r = translate_template(name, options, *m->mutable_add_template(), m.descriptors); !r)
        return r.error();
    return add_template_request();
}

result<template_info> add_template_request::convert(connection&, reply&& r) {
    if (!r.message.has_add_template()) return unexpected_reply();
    template_info info = template_of(r.message.add_template().info());
    info.was_there = r.message.add_template().was_there();
    return info;
}

result<reload_template_request> reload_template_request::fill(outgoing& m, const deadline&,
                                                              std::string_view name, answer when) {
    v1::ReloadTemplateRequest& r = *m->mutable_reload_template();
    r.set_name(name.data(), name.size());
    r.set_no_wait(when == answer::at_once);
    return reload_template_request();
}

result<template_info> reload_template_request::convert(connection&, reply&& r) {
    if (!r.message.has_reload_template()) return unexpected_reply();
    return template_of(r.message.reload_template().info());
}

result<remove_template_request> remove_template_request::fill(outgoing& m, const deadline&,
                                                              std::string_view name) {
    m->mutable_remove_template()->set_name(name.data(), name.size());
    return remove_template_request();
}

result<void> remove_template_request::convert(connection&, reply&& r) {
    return r.message.has_remove_template() ? result<void>() : unexpected_reply();
}

result<list_templates_request> list_templates_request::fill(outgoing& m, const deadline&) {
    m->mutable_list_templates();
    return list_templates_request();
}

result<list_templates_request::value> list_templates_request::convert(connection&, reply&& r) {
    if (!r.message.has_list_templates()) return unexpected_reply();
    value all;
    for (const v1::TemplateInfo& t : r.message.list_templates().templates())
        all.push_back(template_of(t));
    return all;
}

result<template_info_request> template_info_request::fill(outgoing& m, const deadline&,
                                                          std::string_view name) {
    m->mutable_list_templates()->set_name(name.data(), name.size());
    template_info_request request;
    request.name = name;
    return request;
}

result<template_info> template_info_request::convert(connection& c, reply&& r) const {
    auto all = list_templates_request::convert(c, std::move(r));
    if (!all) return all.error();
    if (all->empty())
        return ipc::fail(step::template_name, ENOENT, name, "there is no such template");
    return std::move(all->front());
}

}  // namespace cleanfork::detail
