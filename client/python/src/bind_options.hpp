// Keyword arguments of Python as the library's options.
//
// With the GIL held. An unknown keyword is a TypeError that names it.
#pragma once

#include <cleanfork/client.hpp>

#include "client/python/src/bind_convert.hpp"

namespace cleanfork::python {

// How subprocess writes them; INHERIT is ours.
constexpr int k_pipe = -1;
constexpr int k_stdout = -2;
constexpr int k_devnull = -3;
constexpr int k_inherit = -4;

// Attributes of a child. The environment and the working directory are the
// caller's of this moment, unless the keywords say otherwise; descriptors that
// had to be opened for that are in the second member until the request was sent.
struct child_attributes {
    spawn_options options;
    unique_fd cwd;
};
// `base_is_current`: the session's base is what they are.
child_attributes attributes_of(const py::kwargs& keywords, bool base_is_current,
                               spawn_options start = {});

// The keywords of a template, which are taken out of `keywords`; the rest are
// the attributes of its process.
void take_template_keywords(py::kwargs& keywords, template_options& o);

}  // namespace cleanfork::python
