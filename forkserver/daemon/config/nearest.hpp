// The name that was meant.
#pragma once

#include <string>
#include <string_view>

namespace cleanfork::daemon {

// How many letters are to be put in, taken out, changed or swapped with the next.
std::size_t distance(std::string_view a, std::string_view b);

// Gathers names, and knows the one that is the nearest to `typed`.
class nearest {
public:
    explicit nearest(std::string_view typed) : typed_(typed) {}
    void add(std::string_view known);
    // Like `; did you mean "warm"?`; empty when none is near.
    [[nodiscard]] std::string hint() const;

private:
    std::string_view typed_;
    std::string best_;
    std::size_t least_ = ~std::size_t{0};
};

}  // namespace cleanfork::daemon
