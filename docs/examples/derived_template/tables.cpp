// What the templates hold. The base has the least prime factor of every number
// below 2^25, 128 MiB; each of the other two computes a table from that.
#include <cleanfork/template.hpp>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

constexpr std::uint32_t k_factors = 1U << 25;
constexpr std::uint32_t k_derived = 1U << 23;

std::vector<std::uint32_t> least_factor;  // of the base
std::vector<std::uint32_t> totient;       // of one derived template: 32 MiB
std::vector<std::uint16_t> divisors;      // of the other: 16 MiB

const cleanfork::initialization sieve([] {
    least_factor.assign(k_factors, 0);
    for (std::uint32_t n = 2; n < k_factors; ++n) {
        if (least_factor[n] != 0) continue;
        least_factor[n] = n;
        for (std::uint64_t m = std::uint64_t{n} * n; m < k_factors; m += n)
            if (least_factor[m] == 0) least_factor[m] = n;
    }
});

// n without its least prime factor, and how often that was in it.
struct reduced {
    std::uint32_t rest, factor, power;
};
reduced reduce(std::uint32_t n) {
    reduced r{n, least_factor[n], 0};
    for (; r.rest % r.factor == 0; ++r.power) r.rest /= r.factor;
    return r;
}

const cleanfork::initializer totients("totients", [](cleanfork::call&) {
    totient.assign(k_derived, 1);
    for (std::uint32_t n = 2; n < k_derived; ++n) {
        const std::uint32_t p = least_factor[n], rest = n / p;
        totient[n] = totient[rest] * (rest % p == 0 ? p : p - 1);
    }
});

const cleanfork::initializer divisor_counts("divisor_counts", [](cleanfork::call&) {
    divisors.assign(k_derived, 1);
    for (std::uint32_t n = 2; n < k_derived; ++n) {
        const reduced r = reduce(n);
        divisors[n] = static_cast<std::uint16_t>(divisors[r.rest] * (r.power + 1));
    }
});

std::uint32_t number(const cleanfork::call& c) {
    const unsigned long n = std::stoul(std::string(c.arguments().at(0)));
    if (n < 2 || n >= k_factors) throw std::out_of_range("a number from 2 to 33554431");
    return static_cast<std::uint32_t>(n);
}

// Each of the three templates has the table for this one.
int factors(cleanfork::call& c) {
    std::string all;
    for (std::uint32_t n = number(c); n > 1; n /= least_factor[n])
        all += (all.empty() ? "" : " ") + std::to_string(least_factor[n]);
    c.respond(all);
    return 0;
}

const cleanfork::entry entries[] = {
    {"factors", factors},
    {"totient",
     [](cleanfork::call& c) {
         c.respond(std::to_string(totient.at(number(c))));
         return 0;
     }},
    {"divisors",
     [](cleanfork::call& c) {
         c.respond(std::to_string(divisors.at(number(c))));
         return 0;
     }},
};

}  // namespace
