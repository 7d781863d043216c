#include "forkserver/spawn/disposal.hpp"

#include <new>

namespace cleanfork::spawn {

void disposal::dispose(unique_fd fd) noexcept {
    if (!fd) return;
    try {
        std::vector<unique_fd> one(1);
        one.front() = std::move(fd);
        dispose(std::move(one));
    } catch (const std::bad_alloc&) {  // closed here, though that may wait
    }
}

shared_descriptors share(std::vector<unique_fd> fds, const shared_disposal& where) {
    std::unique_ptr<std::vector<unique_fd>> owned;
    try {
        owned = std::make_unique<std::vector<unique_fd>>();
    } catch (...) {
        where->dispose(std::move(fds));
        throw;
    }
    *owned = std::move(fds);
    return {owned.release(), [where](std::vector<unique_fd>* all) {
                where->dispose(std::move(*all));
                delete all;
            }};
}

std::shared_ptr<session_base> base_for_clients(const shared_disposal& where) {
    return {new session_base, [where](session_base* base) {
                where->dispose(std::move(base->cwd));
                delete base;
            }};
}

}  // namespace cleanfork::spawn
