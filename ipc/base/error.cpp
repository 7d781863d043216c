#include <cleanfork/error.hpp>
#include <system_error>

namespace cleanfork {

namespace {

constexpr int k_step_shift = 16;
constexpr int k_errno_mask = 0xffff;

class category final : public boost::system::error_category {
public:
    // An id of its own makes the copies of two libraries in one program equal.
    constexpr category() noexcept : boost::system::error_category(0x9f2c'41d7'e0b8'5a63) {}

    [[nodiscard]] const char* name() const noexcept override { return "cleanfork"; }

    [[nodiscard]] std::string message(int value) const override {
        return failure{static_cast<step>(value >> k_step_shift), value & k_errno_mask}.message();
    }

    [[nodiscard]] boost::system::error_condition default_error_condition(
        int value) const noexcept override {
        return {value & k_errno_mask, boost::system::generic_category()};
    }
};

failure of_system_error(const boost::system::error_code& ec, const char* what) {
    return {step::prepare, errno_of(ec), "client", what};
}

}  // namespace

const boost::system::error_category& error_category() noexcept {
    static const category instance;
    return instance;
}

boost::system::error_code make_error_code(const failure& f) noexcept {
    const int value = (static_cast<int>(f.step) << k_step_shift) | (f.error_number & k_errno_mask);
    return {value, error_category()};
}

step step_of(const boost::system::error_code& ec) noexcept {
    if (ec.category() != error_category()) return step::none;
    return static_cast<step>(ec.value() >> k_step_shift);
}

int errno_of(const boost::system::error_code& ec) noexcept {
    if (ec.category() == error_category()) return ec.value() & k_errno_mask;
    if (ec.category() == boost::system::system_category()) return ec.value();
    // Through the standard's form, since a code of std may be wrapped in Boost's.
    const std::error_condition means = std::error_code(ec).default_error_condition();
    return means.category() == std::generic_category() ? means.value() : 0;
}

failure as_failure(const boost::system::error_code& ec, step s) {
    if (ec.category() == error_category()) return {step_of(ec), errno_of(ec)};
    if (const int number = errno_of(ec); number != 0) return {s, number};
    return {s, 0, {}, std::string(ec.category().name()) + ": " + ec.message()};
}

spawn_error::spawn_error(failure f)
    : boost::system::system_error(make_error_code(f)),
      failure_(std::move(f)),
      sentence_(failure_.message()) {}

failure failure_of(const std::exception_ptr& e) {
    if (!e) return {};
    try {
        std::rethrow_exception(e);
    } catch (const spawn_error& error) {
        return error.why();
    } catch (const boost::system::system_error& error) {
        return of_system_error(error.code(), error.what());
    } catch (const std::system_error& error) {
        return of_system_error(error.code(), error.what());
    } catch (const std::exception& error) {
        return {step::prepare, ENOMEM, "client", error.what()};
    } catch (...) {
        return {step::prepare, ENOMEM, "client", "an exception of unknown type"};
    }
}

void throw_exception_from_error(const failure& f, const boost::source_location&) {
    throw spawn_error(f);
}

}  // namespace cleanfork
