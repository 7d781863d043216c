#include "forkserver/spawn/disposal.hpp"

namespace cleanfork::spawn {

void disposal::dispose(unique_fd fd) noexcept {
    if (!fd) return;
    std::vector<unique_fd> one(1);  // for who has no memory for that there is no way at all
    one.front() = std::move(fd);
    dispose(std::move(one));
}

shared_descriptors share(std::vector<unique_fd> fds, const shared_disposal& where) {
    auto owned = std::make_unique<std::vector<unique_fd>>(std::move(fds));
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
