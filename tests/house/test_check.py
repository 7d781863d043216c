"""Each rule on a small tree: what is right is not named, and what is wrong is, with its line."""

import os
import tempfile
import unittest

import check
import picture
import rooms


class Rules(unittest.TestCase):
    def told_of(self, files):
        with tempfile.TemporaryDirectory() as root:
            for path, text in files.items():
                path = os.path.join(root, path)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "w", encoding="utf-8") as file:
                    file.write(text)
            return check.complaints(root)

    def assert_told(self, files, *beginnings):
        told = self.told_of(files)
        self.assertEqual(len(told), len(beginnings), told)
        for line, beginning in zip(told, beginnings):
            self.assertEqual(line[:len(beginning)], beginning)


class Arrows(Rules):
    def test_a_room_may_use_those_before_it(self):
        self.assert_told({
            "ipc/base/sys.hpp": "#include <cleanfork/step.hpp>\n",
            "ipc/base/include/cleanfork/step.hpp": "#include <string>\n",
            "ipc/wire/packet.hpp": '#include "ipc/base/sys.hpp"\n',
            "forkserver/daemon/server.cpp": '#include "ipc/wire/packet.hpp"\n'
                                            '#include "forkserver/template/order.hpp"\n',
            "forkserver/template/order.hpp": "",
        })

    def test_and_none_after_it(self):
        self.assert_told({
            "ipc/base/sys.cpp": '#include "ipc/base/sys.hpp"\n\n#include "ipc/wire/packet.hpp"\n',
            "ipc/base/sys.hpp": "",
            "ipc/wire/packet.hpp": "",
        }, "ipc/base/sys.cpp:3: ipc/base must not include from ipc/wire: ipc/wire/packet.hpp")

    def test_client_and_forkserver_do_not_know_each_other(self):
        self.assert_told({
            "forkserver/daemon/server.cpp": "#include <cleanfork/client.hpp>\n",
            "client/include/cleanfork/client.hpp": "",
            "client/src/run/run.cpp": '#include "forkserver/spawn/plan.hpp"\n',
            "forkserver/spawn/plan.hpp": "",
        }, "forkserver/daemon/server.cpp:1: ", "client/src/run/run.cpp:1: ")

    def test_public_headers_include_only_public_ones(self):
        self.assert_told({
            "client/include/cleanfork/client.hpp": '#include "ipc/base/sys.hpp"\n',
            "ipc/base/sys.hpp": "",
        }, "client/include/cleanfork/client.hpp:1: ")

    def test_the_command_does_not_know_the_wire(self):
        self.assert_told({
            "client/cli/commands/audit_command.cpp": '#include "ipc/audit/audit.hpp"\n'
                                                     '#include "ipc/wire/limits.hpp"\n',
            "ipc/audit/audit.hpp": "",
            "ipc/wire/limits.hpp": "",
        }, "client/cli/commands/audit_command.cpp:2: ")

    def test_tests_may_include_anything(self):
        self.assert_told({"tests/unit/a.cpp": '#include "forkserver/daemon/server.hpp"\n',
                          "forkserver/daemon/server.hpp": ""})

    def test_a_file_in_no_room_is_told(self):
        self.assert_told({"ipc/odd/a.hpp": ""}, "ipc/odd/a.hpp:1: is in no room")


class Circles(Rules):
    def test_of_includes(self):
        self.assert_told({
            "ipc/wire/a.hpp": '#include "ipc/wire/b.hpp"\n',
            "ipc/wire/b.hpp": '#include "ipc/wire/c.hpp"\n',
            "ipc/wire/c.hpp": '\n#include "ipc/wire/a.hpp"\n',
        }, "ipc/wire/c.hpp:2: circle: ipc/wire/a.hpp:1 includes ipc/wire/b.hpp, ")

    def test_of_imports_inside_functions_too(self):
        package = "client/python/cleanfork/"
        self.assert_told({
            package + "__init__.py": "def get():\n    from . import a\n    return a\n",
            package + "a.py": "from . import b\n",
            package + "b.py": "\n\ndef f():\n    import cleanfork.a\n",
        }, package + "b.py:4: circle: ")

    def test_but_not_of_what_only_a_type_checker_reads(self):
        package = "client/python/cleanfork/"
        self.assert_told({
            package + "__init__.py": "",
            package + "_mp/__init__.py": "",
            package + "_mp/a.py": "from .b import name\n",
            package + "_mp/b.py": "from typing import TYPE_CHECKING\n"
                                  "if TYPE_CHECKING:\n    from .a import other\n",
        })

    def test_two_are_both_told(self):
        self.assert_told({
            "ipc/wire/a.hpp": '#include "ipc/wire/b.hpp"\n#include "ipc/wire/c.hpp"\n',
            "ipc/wire/b.hpp": '#include "ipc/wire/a.hpp"\n',
            "ipc/wire/c.hpp": '#include "ipc/wire/a.hpp"\n',
        }, "ipc/wire/b.hpp:1: circle", "ipc/wire/c.hpp:1: circle")


class Sizes(Rules):
    LINE = "    f();\n"

    def test_a_file_of_400_lines_and_one_of_401(self):
        self.assert_told({"ipc/wire/a.hpp": "\n" * 400, "ipc/wire/b.hpp": "\n" * 401,
                          "dev": "\n" * 401},
                         "ipc/wire/b.hpp:401: has 401 lines", "dev:401: ")

    def test_a_function_of_60_lines_and_one_of_61(self):
        self.assert_told({"ipc/wire/a.cpp": "namespace a {\nint f(\n  int a) {\n" +
                          self.LINE * 57 + "}\n"
                          "struct s : b<c> {\n  void g() const noexcept {\n" + self.LINE * 59 +
                          "  }\n};\n}  // namespace a\n"},
                         "ipc/wire/a.cpp:63: a function of 61 lines")

    def test_braces_in_text_do_not_count(self):
        self.assert_told({"ipc/wire/a.cpp": "void f() {\n  g(\"{\", '{', R\"({)\");  // {\n}\n" +
                          "int a;\n" * 70 + "void h() {\n" + self.LINE * 60 + "}\n"},
                         "ipc/wire/a.cpp:74: a function of 62 lines")

    def test_a_test_case_and_a_function_of_python(self):
        self.assert_told({"tests/unit/a.cpp": 'TEST_CASE("does {}") {\n' + self.LINE * 60 + "}\n",
                          "tests/python/a.py": "def f():\n" + "    f()\n" * 60},
                         "tests/python/a.py:1: a function of 61 lines",
                         "tests/unit/a.cpp:1: a function of 62 lines")

    def test_a_table_is_no_function(self):
        self.assert_told({"ipc/wire/a.cpp": "const row rows[] = {\n" + "    {f(), 1},\n" * 70 +
                          "};\nconst char* name(e v) {\n    switch (v) {\n" +
                          "        case e::a: return g();\n" * 70 + "    }\n    return 0;\n}\n"})


class Names(Rules):
    def test_two_things_of_one_name(self):
        self.assert_told({"forkserver/spawn/child.cpp": "", "forkserver/template/child.hpp": ""},
                         "forkserver/template/child.hpp:1: has the name of ")

    def test_one_thing_may_have_a_header_and_a_source(self):
        self.assert_told({
            "client/include/cleanfork/client.hpp": "", "client/src/client.cpp": "",
            "ipc/base/include/cleanfork/step.hpp": "", "ipc/base/step.cpp": "",
            "ipc/wire/packet.hpp": "", "ipc/wire/packet.cpp": "",
            "client/cli/main.cpp": "", "forkserver/daemon/main.cpp": "",
            "client/python/cleanfork/packet.py": "",
        })


class Prose(Rules):
    def test_text_is_wrapped_but_tables_and_code_are_not(self):
        wide = "word " * 21
        self.assert_told({"docs/a.md": f"# A\n\n{wide}\n", "README.md": f"* {wide}\n"},
                         "README.md:1: 107 columns", "docs/a.md:3: 105 columns")
        self.assert_told({"docs/a.md": f"| {wide} |\n\n    {wide}\n\n```\n{wide}\n```\n"
                                       f"{'x' * 120}\n"})

    def test_a_file_that_text_names_is_there(self):
        self.assert_told({"docs/a.md": "See `ipc/wire/b.hpp` and `ipc/wire/c.hpp`.\n",
                          "ipc/wire/b.hpp": ""},
                         "docs/a.md:1: there is no ipc/wire/c.hpp")


class Pictures(unittest.TestCase):
    def test_the_picture_of_the_rooms_is_drawn_from_their_rules(self):
        self.assertEqual(set(picture.WORDS), set(rooms.ROOMS))
        path = os.path.join(os.path.dirname(__file__), "../../docs/pictures/rooms.dot")
        with open(path, encoding="utf-8") as file:
            self.assertEqual(file.read(), picture.dot(), "./dev pictures draws it anew")


if __name__ == "__main__":
    unittest.main()
