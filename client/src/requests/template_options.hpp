// Options of a template as the schema has them.
#pragma once

#include <cleanfork/templates.hpp>

#include "client/src/connection/outgoing.hpp"

namespace cleanfork::detail {

// Fills `request` and `descriptors` from `options`.
result<void> translate_template(std::string_view name, const template_options& options,
                                v1::AddTemplateRequest& request, descriptor_list& descriptors);

// Adds glibc's tunable to those that `env`, or the session's base below it, sets.
void request_huge_pages(environment& env);

}  // namespace cleanfork::detail
