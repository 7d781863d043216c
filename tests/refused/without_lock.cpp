// refused: has non-pointer type
#include <vector>

#include "../../client/src/connection/guarded.hpp"

struct connection_of_test {
    std::vector<int> pending;
};

// The data of a guarded is reached through lock() alone.
std::size_t pending(cleanfork::detail::guarded<connection_of_test>& tables) {
    return tables->pending.size();
}
