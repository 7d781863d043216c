// Any packet that a child gets by its lease is refused, or points nowhere out of itself; and so is
// any word that a client gets.
#include <cstring>
#include <memory>

#include "ipc/wire/lease.hpp"
#include "ipc/wire/limits.hpp"
#include "tests/fuzz/seeds.hpp"

using namespace cleanfork;
using namespace cleanfork::fuzz;

namespace {

std::size_t touched(std::string_view text) {
    std::size_t sum = 0;
    for (const char c : text) sum += static_cast<unsigned char>(c);
    return sum;
}

void check(const ipc::lease_call& c, std::size_t descriptors) {
    const auto came = [descriptors](std::int32_t index) {
        return index >= 0 && static_cast<std::size_t>(index) < descriptors;
    };
    touched(c.text(c.entry));
    touched(c.text(c.payload_bytes));
    for (const ipc::lease_part& a : c.items<ipc::lease_part>(c.arguments)) touched(c.text(a));
    for (const ipc::lease_move& m : c.items<ipc::lease_move>(c.moves)) {
        touched(c.text(m.name));
        require(came(m.source), "what is moved has come");
        require(m.target >= 0 && m.target <= ipc::k_max_target, "a target is within the limit");
    }
    require(c.moves.count <= ipc::k_max_descriptors, "there is room for the moves");
    require(c.payload == -1 || came(c.payload), "the payload has come");
    require(c.result == -1 || came(c.result), "the place of the result has come");
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
    ipc::lease_content c;
    c.entry = "entry";
    c.payload = "payload";
    c.arguments = {"one", "", "three"};
    c.moves = {{"in", 0, 3}, {{}, 1, 1}};
    c.result_descriptor = 2;
    write_seeds(*argc, *argv, {'\3' + ipc::pack_lease({}), '\3' + ipc::pack_lease(c)});
    return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    const std::size_t descriptors = data[0] % (ipc::k_max_descriptors + 1);
    // As new has it, and no longer than the packet: what is read behind it is found.
    const std::unique_ptr<char[]> packet(new char[size - 1]);
    std::memcpy(packet.get(), data + 1, size - 1);
    if (const auto* c = ipc::open_lease({packet.get(), size - 1}, descriptors))
        check(*c, descriptors);
    std::string_view words(packet.get(), size - 1);
    while (const auto m = ipc::take_lease_word(words))
        require(m->text.size() <= ipc::k_max_lease_text, "a word is short");
    return 0;
}
