// The environment of this process, as C has it: what putenv(3) changed too.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace cleanfork::python {

// "NAME=value", as they are now. The interpreter's lock keeps Python's os.putenv() away. Without
// it, in a free-threaded interpreter, the kernel copies them, until two copies are the same: what
// setenv(3) gives back in another thread meanwhile is an error there, and no crash.
std::vector<std::string> variables_now();

// Whether they are those of `block`, in which each ends with a NUL, in its order. For a process
// with one thread: allocates nothing.
bool variables_are(std::string_view block) noexcept;

}  // namespace cleanfork::python
