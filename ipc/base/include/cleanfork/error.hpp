// Errors of cleanfork: a failure names its step, the errno and the object.
//
// Thread-safety: all types here are values.
#pragma once

#include <boost/system/error_code.hpp>
#include <boost/system/result.hpp>
#include <boost/system/system_error.hpp>
#include <cleanfork/export.hpp>
#include <cleanfork/failure.hpp>
#include <exception>
#include <string>

namespace cleanfork {

// error_codes of this category hold step and errno in one int. They compare
// equal to the errno's condition (`ec == boost::system::errc::no_such_file_or_directory`)
// and their message() names the step.
CLEANFORK_EXPORT const boost::system::error_category& error_category() noexcept;

// Step and errno of `f` as such a code: the object and detail stay behind.
CLEANFORK_EXPORT boost::system::error_code make_error_code(const failure& f) noexcept;

// step::none when `ec` is of another category.
CLEANFORK_EXPORT step step_of(const boost::system::error_code& ec) noexcept;
// The errno in a code of ours, of the system's or the generic category, or of one whose default
// condition is an errno; 0 of any other: the number 1 of asio.misc is "Already open", not EPERM.
// Nothing reads ec.value() as an errno but this.
CLEANFORK_EXPORT int errno_of(const boost::system::error_code& ec) noexcept;
// `ec` of whatever category, which is not a success. The step is that of a code of ours, else `s`;
// the detail says what an errno could not. One that has no errno keeps its category and message.
CLEANFORK_EXPORT failure as_failure(const boost::system::error_code& ec, step s);

// Thrown by every throwing operation, and the only exception in the
// exception_ptr of an asynchronous one.
class CLEANFORK_EXPORT spawn_error : public boost::system::system_error {
public:
    explicit spawn_error(failure f);

    [[nodiscard]] cleanfork::step step() const noexcept { return failure_.step; }
    [[nodiscard]] int error_number() const noexcept { return failure_.error_number; }
    [[nodiscard]] const std::string& object() const noexcept { return failure_.object; }
    [[nodiscard]] const failure& why() const noexcept { return failure_; }
    [[nodiscard]] const char* what() const noexcept override { return sentence_.c_str(); }

private:
    failure failure_;
    std::string sentence_;
};

// The failure inside the exception_ptr of an asynchronous spawn; step::none when null. Of an
// exception that is no spawn_error: step::prepare, and the errno of a system_error.
CLEANFORK_EXPORT failure failure_of(const std::exception_ptr& e);

}  // namespace cleanfork
