// cleanfork._cleanfork: the client library, with the GIL and Python's errors seen to.
//
// Thin on purpose: what can be said in Python is said there.
#include "client/python/src/bind_client.hpp"
#include "client/python/src/bind_errors.hpp"
#include "client/python/src/bind_options.hpp"
#include "client/python/src/template_host.hpp"
#include "ipc/wire/defaults.hpp"

namespace {

void define(pybind11::module_& m) {
    using namespace cleanfork::python;
    watch_forks();
    register_errors();
    bind_process(m);
    bind_client(m);
    bind_template(m);
    m.attr("INHERIT") = k_inherit;
    m.attr("DEFAULT_GRACE") =
        std::chrono::duration<double>(cleanfork::ipc::k_default_grace).count();
    m.attr("__version__") = CLEANFORK_VERSION;
}

}  // namespace

// What a free-threaded interpreter is told: without it, it would turn its lock on.
#if PYBIND11_VERSION_HEX >= 0x020d0000
PYBIND11_MODULE(_cleanfork, m, pybind11::mod_gil_not_used()) { define(m); }
#else
PYBIND11_MODULE(_cleanfork, m) { define(m); }
#endif
