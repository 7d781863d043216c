// Boost.Process v2 compiled apart, once: without it, process_environment of Boost
// 1.81 does not link. The bridge only reads the initializers and could do without.
// Later it is a library, which the program links, and has no such header.
#if __has_include(<boost/process/v2/src.hpp>)
#include <boost/process/v2/src.hpp>
#endif
