// A template that keeps TEMPLATE_TOUCH_MIB of memory to itself (MADV_DONTFORK).
#include <cleanfork/template.hpp>
#include <cstdlib>
#include <string>
#include <vector>

namespace {

std::vector<char> memory;

const cleanfork::initialization touch([] {
    const char* mib = std::getenv("TEMPLATE_TOUCH_MIB");
    memory.assign(std::stoul(mib != nullptr ? mib : "1") << 20, 1);
    cleanfork::keep_from_children(memory.data(), memory.size());
});
const cleanfork::entry nothing("nothing", [](cleanfork::call&) { return 0; });

}  // namespace

int main(int argc, char** argv) {
    cleanfork::template_main(argc, argv);
    return 2;
}
