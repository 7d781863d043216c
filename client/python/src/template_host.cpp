#include "client/python/src/template_host.hpp"

#include <fcntl.h>
#include <pybind11/stl.h>
#include <unistd.h>

#include <csignal>
#include <stdexcept>

#include "client/python/src/bind_arguments.hpp"
#include "client/python/src/gil.hpp"
#include "client/python/src/hot_pages.hpp"
#include "client/python/src/variables.hpp"
#include "forkserver/template/host.hpp"
#include "forkserver/template/kept_files.hpp"
#include "forkserver/template/loop.hpp"
#include "ipc/base/proc.hpp"

namespace cleanfork::python {

namespace py = pybind11;

namespace {

// Calls methods of a Python object; cleanfork.template has it. The one thread
// there is holds the GIL for good, once others that end have done so.
class python_host final : public templates::host {
public:
    explicit python_host(py::object object) : object_(std::move(object)) {}

    [[nodiscard]] std::vector<std::string> entries() const override {
        return object_.attr("entries")().cast<std::vector<std::string>>();
    }
    void before_fork() override {
        flush();
        PyOS_BeforeFork();
    }
    void after_fork() override { PyOS_AfterFork_Parent(); }
    void let_others_run(const timespec& time) override {
        const without_gil others;
        ::nanosleep(&time, nullptr);
    }
    void after_fork_in_child() override {
        PyOS_AfterFork_Child();
        // The template has these two for itself; in_child() gives them what the imports did.
        std::signal(SIGINT, SIG_DFL);
        std::signal(SIGCHLD, SIG_DFL);
    }
    [[nodiscard]] bool keeps_handlers() const override { return true; }
    // A child whose request is there already takes its pages one by one, as it comes
    // to them: all together are no cheaper, and would keep its caller waiting.
    void before_parking() override { hot_.take(); }
    [[nodiscard]] bool has_entry(std::string_view name) const override {
        return object_.attr("has_entry")(name).cast<bool>();
    }
    // Python's templates are told apart by what they import; none is derived.
    [[nodiscard]] bool has_initializer(std::string_view) const override { return false; }
    void in_child() override { object_.attr("in_child")(); }
    int run(const templates::task& t) override {
        py::dict descriptors;
        for (const auto& [name, fd] : t.descriptors) descriptors[py::str(name)] = fd;
        py::list arguments;
        for (const std::string_view a : t.arguments)
            arguments.append(py::bytes(a.data(), a.size()));
        return object_
            .attr("run")(t.entry,
                         py::memoryview::from_memory(t.payload.data(),
                                                     static_cast<py::ssize_t>(t.payload.size())),
                         arguments, descriptors, t.result_fd)
            .cast<int>();
    }
    void derive(const templates::task&) override {
        throw std::logic_error("a Python template has no initializers");
    }
    void flush() override { object_.attr("flush")(); }

    void rehearse() override {
        const py::object rehearsal = object_.attr("rehearsal")();
        hot_.learn([&rehearsal] { rehearsal(); });
    }
    void initialize() { object_.attr("initialize")(); }

private:
    py::object object_;
    hot_pages hot_;
};

// Never returns.
void serve(int control, py::object object) {
    ::fcntl(control, F_SETFD, FD_CLOEXEC);
    python_host host(object);
    templates::initialize_and_serve(control, host, [&host] { host.initialize(); });
}

// What the C library has now; os.environ is what it had when Python began.
py::dict c_environment() {
    py::dict all;
    for (const std::string_view entry : variables_now())
        if (const auto equals = entry.find('='); equals != entry.npos)
            all[py::bytes(entry.substr(0, equals))] = py::bytes(entry.substr(equals + 1));
    return all;
}

}  // namespace

void bind_template(py::module_& m) {
    function(m, {"c_environment", {}}, [](const arguments&) { return c_environment(); });
    function(m, {"environment_block", {}}, [](const arguments&) {
        std::string block;
        for (const std::string& entry : variables_now()) block += entry + '\0';
        return py::bytes(block);
    });
    function(m, {"environment_is", {{"block"}}}, [](const arguments& a) {
        return variables_are(py::cast<std::string_view>(py::bytes(a["block"])));
    });
    function(m, {"ignored_signals", {}},
             [](const arguments&) { return ipc::own_ignored_signals(); });
    function(m, {"not_for_children", {{"own"}}}, [](const arguments& a) {
        const int own = a.integer("own");
        return templates::not_for_children({&own, 1});
    });
    function(m, {"current_umask", {}}, [](const arguments&) { return ipc::own_umask(); });
    function(m, {"serve_template", {{"control"}, {"host"}}},
             [](const arguments& a) { serve(a.integer("control"), a["host"]); });
}

}  // namespace cleanfork::python
