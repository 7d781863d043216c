// What went wrong, in full: step, errno, object, and a sentence for a person.
#pragma once

#include <boost/assert/source_location.hpp>
#include <boost/system/result.hpp>
#include <cleanfork/export.hpp>
#include <cleanfork/step.hpp>
#include <string>

namespace cleanfork {

struct CLEANFORK_EXPORT failure {
    cleanfork::step step = step::none;
    int error_number = 0;  // errno of Linux
    std::string object{};  // path, descriptor, limit ... may be empty
    std::string detail{};  // a sentence, when step, errno and object do not say it all

    // One line for a person: step, object, errno's text, and a remedy where one
    // is known: `chdir "/x": No such file or directory (ENOENT). ...`
    [[nodiscard]] std::string message() const;

    friend bool operator==(const failure&, const failure&) = default;
};

// Throws a spawn_error of <cleanfork/error.hpp>. Found by boost::system::result::value(), and by
// its operator* in later versions of Boost, so it is declared wherever there is a result.
[[noreturn]] CLEANFORK_EXPORT void throw_exception_from_error(const failure& f,
                                                              const boost::source_location&);

template <class T>
using result = boost::system::result<T, failure>;

}  // namespace cleanfork
