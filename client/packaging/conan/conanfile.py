"""cleanfork for Conan 2, from the tree that this file is in.

    conan create client/packaging/conan                        what it needs is Conan's
    conan create client/packaging/conan -o "&:system=True"     ... is the system's (Debian's names:
        libboost-dev, libprotobuf-dev, protobuf-compiler, nlohmann-json3-dev, libcli11-dev,
        libtomlplusplus-dev)

`./dev packages` makes and tests the second, which has not been run to its end yet. The first needs
Conan's own server, and has not been run by us.
"""

import os
import re

from conan import ConanFile
from conan.errors import ConanInvalidConfiguration
from conan.tools.build import check_min_cppstd
from conan.tools.cmake import CMake, CMakeDeps, CMakeToolchain, cmake_layout
from conan.tools.files import copy, load

TREE = os.path.join("..", "..", "..")


class Cleanfork(ConanFile):
    name = "cleanfork"
    description = "A clean forkserver: fresh processes for programs that must not fork"
    license = "Apache-2.0"
    topics = ("forkserver", "fork", "process", "spawn")
    package_type = "unknown"  # both kinds of libraries, and two programs
    settings = "os", "arch", "compiler", "build_type"
    options = {"system": [True, False]}
    default_options = {"system": False}

    def set_version(self):
        told = load(self, os.path.join(self.recipe_folder, TREE, "CMakeLists.txt"))
        self.version = re.search(r"project\(cleanfork VERSION ([0-9.]+)", told)[1]

    def export_sources(self):
        tree = os.path.join(self.recipe_folder, TREE)
        for pattern in ("CMakeLists.txt", "LICENSE", "ipc/*", "forkserver/*", "client/*",
                        "docs/man/*"):
            copy(self, pattern, tree, self.export_sources_folder)

    def layout(self):
        cmake_layout(self)

    def validate(self):
        if self.settings.os != "Linux":
            raise ConanInvalidConfiguration("cleanfork is for Linux")
        check_min_cppstd(self, 20)

    def requirements(self):
        if not self.options.system:
            self.requires("boost/[>=1.81 <2]", options={"header_only": True},
                          transitive_headers=True)
            self.requires("protobuf/[>=3.21 <4]")
            self.requires("nlohmann_json/[>=3.11 <4]")
            self.requires("cli11/[>=2.1 <3]")
            self.requires("tomlplusplus/[>=3.2 <4]")

    def build_requirements(self):
        if not self.options.system:
            self.tool_requires("protobuf/<host_version>")

    def generate(self):
        toolchain = CMakeToolchain(self)
        for name in ("TESTS", "BENCH", "EXAMPLES", "PYTHON"):
            toolchain.cache_variables[f"CLEANFORK_{name}"] = False
        toolchain.cache_variables["CLEANFORK_INSTALL"] = True
        toolchain.generate()
        CMakeDeps(self).generate()

    def build(self):
        cmake = CMake(self)
        cmake.configure()
        cmake.build()

    def package(self):
        copy(self, "LICENSE", self.source_folder, os.path.join(self.package_folder, "licenses"))
        CMake(self).install()

    def package_info(self):
        # The installed files of CMake and pkg-config say all, and of both kinds of libraries.
        self.cpp_info.set_property("cmake_find_mode", "none")
        self.cpp_info.builddirs = ["lib/cmake/cleanfork"]
        self.cpp_info.libs = ["cleanfork", "cleanfork-template"]
        self.buildenv_info.append_path("PATH", os.path.join(self.package_folder, "bin"))
        self.runenv_info.append_path("PATH", os.path.join(self.package_folder, "bin"))
