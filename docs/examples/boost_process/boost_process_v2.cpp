// Boost.Process v2 compiled apart, once: without it, process_environment of Boost
// 1.81 does not link. The bridge only reads the initializers and could do without.
#include <boost/process/v2/src.hpp>
