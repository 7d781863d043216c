// What a forkserver tells, as dictionaries. With the GIL held.
#pragma once

#include <cleanfork/reports.hpp>
#include <cleanfork/templates.hpp>

#include "client/python/src/bind_convert.hpp"

namespace cleanfork::python {

py::dict dict_of(const server_info& s);
py::dict dict_of(const server_stats& s);
py::dict dict_of(const event_page& p);
py::dict dict_of(const child_info& c);
py::dict dict_of(const template_info& t);

}  // namespace cleanfork::python
