// What a template's options are called and said to be, on the command line and in the file of
// cleanforkd.
#pragma once

#include <string_view>

namespace cleanfork::ipc {

struct option_words {
    std::string_view name;   // without its dashes
    std::string_view value;  // what stands for its value; empty: it is on or off
    std::string_view text;
};

namespace template_words {

inline constexpr option_words k_from{"from", "BASE", "Derive it from this template"};
inline constexpr option_words k_init{"init", "ENTRY",
                                     "The initializer that runs in the child of BASE"};
inline constexpr option_words k_warm{"warm", "N", "Children forked ahead of time"};
inline constexpr option_words k_leases{
    "leases", "N", "So many more for sessions that call it often (default: as --warm)"};
inline constexpr option_words k_start_timeout{"start-timeout", "DURATION",
                                              "For its initialization (default: 1m)"};
inline constexpr option_words k_call_timeout{"call-timeout", "DURATION",
                                             "For a child to take its call (default: 10s)"};
inline constexpr option_words k_huge_pages{"huge-pages", "",
                                           "Its heap in huge pages: cheaper to fork"};
inline constexpr option_words k_allow_fd{"allow-fd", "N",
                                         "A descriptor of its own that is harmless to share"};
inline constexpr option_words k_tolerate_unclean{"tolerate-unclean", "",
                                                 "Tell what is unclean, do not refuse it"};

}  // namespace template_words

}  // namespace cleanfork::ipc
