// The streams 0, 1 and 2 this process was started with.
#pragma once

namespace cleanfork::cli {

// Which of them were closed: a child gets /dev/null in their place.
struct closed_streams {
    bool closed[3] = {};
};

// Takes the numbers of those that are closed, so that no socket of ours gets them.
closed_streams occupy_standard_streams();

}  // namespace cleanfork::cli
