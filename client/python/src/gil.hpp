// The interpreter's lock, for threads that the program's end may find in a wait.
//
// Python before 3.14 ends a daemon thread that wants the lock while the interpreter ends, by
// pthread_exit(3): an unwinding that no destructor of ours survives. Here such a thread stays
// where it is, as in Python from 3.14 on, and ends with the process.
//
// None of a caller's locks may be held where the interpreter's is taken again.
#pragma once

#include <cxxabi.h>
#include <pybind11/pybind11.h>
#include <unistd.h>

namespace cleanfork::python {

namespace py = pybind11;

[[noreturn]] inline void stay() noexcept {
    for (;;) ::pause();
}

// Others run as long as it lives.
class without_gil {
public:
    without_gil() : state_(PyEval_SaveThread()) {}
    without_gil(const without_gil&) = delete;
    without_gil& operator=(const without_gil&) = delete;
    ~without_gil() {
        try {
            PyEval_RestoreThread(state_);
        } catch (abi::__forced_unwind&) {
            stay();
        }
    }

private:
    PyThreadState* state_;
};

// Runs the handlers that are due, in the thread that runs them. False when one raised: the
// error is set. Without the lock.
inline bool handle_signals() {
    try {
        const py::gil_scoped_acquire gil;
        return PyErr_CheckSignals() == 0;
    } catch (abi::__forced_unwind&) {
        stay();
    }
}

}  // namespace cleanfork::python
