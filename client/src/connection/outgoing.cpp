#include "client/src/connection/outgoing.hpp"

#include "ipc/base/sys.hpp"

namespace cleanfork::detail {

std::uint32_t descriptor_list::add(int fd, v1::DescriptorPurpose purpose) {
    for (std::size_t i = 0; i < count_; ++i)
        if (numbers_[i] == fd && purposes_[i] == purpose) return static_cast<std::uint32_t>(i + 1);
    if (count_ == numbers_.size()) {
        ++refused_;
        return 0;
    }
    numbers_[count_] = fd;
    purposes_[count_] = purpose;
    return static_cast<std::uint32_t>(++count_);
}

std::uint32_t descriptor_list::add_owned(unique_fd fd, v1::DescriptorPurpose purpose) {
    owned_.push_back(std::move(fd));
    return add(owned_.back().get(), purpose);
}

result<void> descriptor_list::check() const {
    for (const int fd : numbers())
        if (fd < 0) return ipc::fail(step::request, EBADF, std::to_string(fd));
    if (refused_ == 0) return {};
    return ipc::fail(step::request, E2BIG, std::to_string(count_ + refused_) + " descriptors",
                     "one request carries at most " + std::to_string(numbers_.size()));
}

void descriptor_list::state_in(v1::ClientMessage& m) const {
    for (std::size_t i = 0; i < count_; ++i) m.add_descriptors(purposes_[i]);
}

}  // namespace cleanfork::detail
