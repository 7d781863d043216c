#include "forkserver/daemon/loop/boundary.hpp"

#include <boost/system/system_error.hpp>
#include <cerrno>
#include <exception>
#include <new>

#include "ipc/base/sys.hpp"

namespace cleanfork::daemon {

namespace {

failure failure_of_current_exception(const char* place) {
    try {
        throw;
    } catch (const std::bad_alloc&) {
        return ipc::fail(step::prepare, ENOMEM, "memory",
                         "RESOURCE_EXHAUSTED: the forkserver has no memory for it");
    } catch (const boost::system::system_error& e) {
        const bool is_errno = e.code().category() == boost::system::system_category();
        return ipc::fail(step::prepare, is_errno ? e.code().value() : 0, place, e.what());
    } catch (const std::exception& e) {
        return ipc::fail(step::prepare, 0, place, e.what());
    } catch (...) {
        return ipc::fail(step::prepare, 0, place, "an exception that is no std::exception");
    }
}

}  // namespace

failure event_loop::caught(const char* place) noexcept {
    try {
        failure why = failure_of_current_exception(place);
        if (log_ != nullptr)
            log_->error("handler_failed", {{"place", place}, {"why", why.message()}});
        return why;
    } catch (...) {  // not even memory for its words
        return failure{step::prepare, ENOMEM, {}, {}};
    }
}

}  // namespace cleanfork::daemon
