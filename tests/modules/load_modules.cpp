// Loads modules in the order given, then uses each of them, twice round.
//   load_modules global|local MODULE...      prints a line for each use
#include <dlfcn.h>

#include <cstring>
#include <fstream>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

namespace {

// What is there already would make the order meaningless.
bool loaded(const std::string& library) {
    std::ifstream maps("/proc/self/maps");
    for (std::string line; std::getline(maps, line);)
        if (line.find('/' + library + ".so") != std::string::npos) return true;
    return false;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 3) return 2;
    if (loaded("libcleanfork") || loaded("libprotobuf") || loaded("libgrpc++")) {
        std::cerr << "a library is loaded before any module\n";
        return 1;
    }
    const int scope = std::strcmp(argv[1], "global") == 0 ? RTLD_GLOBAL : RTLD_LOCAL;
    using use_function = const char* (*)();  // null when all went well
    std::vector<std::pair<std::string, use_function>> modules;
    for (int i = 2; i < argc; ++i) {
        void* const module = ::dlopen(argv[i], RTLD_NOW | scope);
        void* const use = module != nullptr ? ::dlsym(module, "use_it") : nullptr;
        if (use == nullptr) {
            std::cerr << ::dlerror() << '\n';
            return 1;
        }
        modules.emplace_back(argv[i], reinterpret_cast<use_function>(use));
    }
    for (int round = 0; round < 2; ++round)
        for (const auto& [name, use] : modules) {
            if (const char* const wrong = use()) {
                std::cerr << name << ": " << wrong << '\n';
                return 1;
            }
            std::cout << name.substr(name.rfind('/') + 1) << " works" << std::endl;
        }
    return 0;
}
