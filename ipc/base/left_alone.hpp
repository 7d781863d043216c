// Memory that a process which shares it goes on to use.
#pragma once

#include <forward_list>

namespace cleanfork::ipc {

// Never given back. It stays known, so that it is no leak.
inline void leave_alone(const void* memory) {
    static auto* const all = new std::forward_list<const void*>;
    all->push_front(memory);
}

}  // namespace cleanfork::ipc
