#include "client/python/src/variables.hpp"

// Python.h comes first, as it asks.
#include <Python.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>

namespace cleanfork::python {

namespace {

std::vector<std::string> seen_directly() {
    std::vector<std::string> all;
    for (char** entry = ::environ; entry != nullptr && *entry != nullptr; ++entry)
        all.emplace_back(*entry);
    return all;
}

#ifdef Py_GIL_DISABLED

constexpr std::uintptr_t k_page = 4096;
constexpr std::size_t k_at_once = 64;    // variables, in one call
constexpr std::size_t k_piece = 512;     // of each of them
constexpr std::size_t k_most = 8 << 20;  // bytes: what execve(2) would take is less
constexpr int k_tries = 100;

// Up to the end of the page: the next one may not be there.
std::size_t readable(const void* at, std::size_t most) {
    return std::min<std::size_t>(most, k_page - reinterpret_cast<std::uintptr_t>(at) % k_page);
}

iovec span_at(const void* at, std::size_t size) { return {const_cast<void*>(at), size}; }

// What process_vm_readv(2) of this process says: all of it, or nothing.
bool copied(const iovec* to, const iovec* from, std::size_t count) {
    std::size_t wanted = 0;
    for (std::size_t i = 0; i < count; ++i) wanted += from[i].iov_len;
    return ::process_vm_readv(::getpid(), to, count, from, count, 0) ==
           static_cast<ssize_t>(wanted);
}

char** environ_now() { return __atomic_load_n(&::environ, __ATOMIC_ACQUIRE); }

std::optional<std::vector<const char*>> entries_of(char** array) {
    std::vector<const char*> all;
    std::array<const char*, k_piece / sizeof(char*)> piece;
    while (array != nullptr && all.size() < k_most / sizeof(char*)) {
        const std::size_t size = readable(array, sizeof piece);
        const iovec to = span_at(piece.data(), size), from = span_at(array, size);
        if (!copied(&to, &from, 1)) return std::nullopt;
        const std::size_t count = size / sizeof(char*);
        const auto last = piece.begin() + static_cast<std::ptrdiff_t>(count);
        const auto end = std::find(piece.begin(), last, nullptr);
        all.insert(all.end(), piece.begin(), end);
        if (end != last) break;
        array += count;
    }
    return all;
}

struct text {
    const char* rest;  // null: all of it is here
    std::string here;
};

// The next piece of each that has not ended, of 64 at most.
bool read_more(std::vector<text*>& open, std::size_t& total) {
    std::array<iovec, k_at_once> to{}, from{};
    const std::size_t count = std::min(open.size(), k_at_once);
    const auto pieces = std::make_unique_for_overwrite<char[]>(count * k_piece);
    for (std::size_t i = 0; i < count; ++i) {
        from[i] = span_at(open[i]->rest, readable(open[i]->rest, k_piece));
        to[i] = span_at(pieces.get() + i * k_piece, from[i].iov_len);
    }
    if (!copied(to.data(), from.data(), count)) return false;
    for (std::size_t i = 0; i < count; ++i) {
        const auto* const piece = static_cast<const char*>(to[i].iov_base);
        const std::size_t size = ::strnlen(piece, to[i].iov_len);
        open[i]->here.append(piece, size);
        open[i]->rest = size == to[i].iov_len ? open[i]->rest + size : nullptr;
        total += size;
    }
    std::erase_if(open, [](const text* each) { return each->rest == nullptr; });
    return total <= k_most;
}

std::optional<std::vector<std::string>> kernels_copy() {
    char** const array = environ_now();
    const auto entries = entries_of(array);
    if (!entries || array != environ_now()) return std::nullopt;
    std::vector<text> texts;
    texts.reserve(entries->size());
    std::vector<text*> open;
    for (const char* const each : *entries) open.push_back(&texts.emplace_back(each, ""));
    std::size_t total = 0;
    while (!open.empty())
        if (!read_more(open, total)) return std::nullopt;
    std::vector<std::string> all;
    for (text& each : texts) all.push_back(std::move(each.here));
    return all;
}

#endif

}  // namespace

std::vector<std::string> variables_now() {
#ifdef Py_GIL_DISABLED
    std::optional<std::vector<std::string>> last;
    for (int i = 0; i < k_tries; ++i) {
        auto now = kernels_copy();
        const bool same = now && now == last;
        if (now) last = std::move(now);
        if (same) break;
    }
    if (last) return std::move(*last);  // of variables that change all the time: as they came
#endif
    return seen_directly();  // also where process_vm_readv(2) is refused
}

bool variables_are(std::string_view block) noexcept {
    for (char** entry = ::environ; entry != nullptr && *entry != nullptr; ++entry) {
        const std::size_t size = std::strlen(*entry) + 1;
        if (block.size() < size || std::memcmp(block.data(), *entry, size) != 0) return false;
        block.remove_prefix(size);
    }
    return block.empty();
}

}  // namespace cleanfork::python
