#include "forkserver/daemon/config/nearest.hpp"

#include <algorithm>
#include <vector>

namespace cleanfork::daemon {

namespace {

// Beyond that a name is another one, and no slip of it.
constexpr std::size_t k_slips = 3;
// Nobody's name is so long; what a file has may be.
constexpr std::size_t k_longest = 64;

}  // namespace

std::size_t distance(std::string_view a, std::string_view b) {
    // Three rows of the table whose cell (i, j) is the distance of the first i and j letters.
    std::vector<std::size_t> before(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
    for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
    for (std::size_t i = 1; i <= a.size(); ++i) {
        std::swap(before, last);
        std::swap(last, row);
        row[0] = i;
        for (std::size_t j = 1; j <= b.size(); ++j) {
            const std::size_t change = last[j - 1] + (a[i - 1] != b[j - 1] ? 1 : 0);
            row[j] = std::min({last[j] + 1, row[j - 1] + 1, change});
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = std::min(row[j], before[j - 2] + 1);
        }
    }
    return row[b.size()];
}

void nearest::add(std::string_view known) {
    if (typed_.size() > k_longest) return;
    const std::size_t d = distance(typed_, known);
    // With more slips than half of its letters it is none of them.
    if (d > k_slips || d * 2 > known.size() || d >= least_) return;
    least_ = d;
    best_ = known;
}

std::string nearest::hint() const {
    return best_.empty() ? std::string() : "; did you mean \"" + best_ + "\"?";
}

}  // namespace cleanfork::daemon
