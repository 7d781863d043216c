"""What a run of ./dev writes into docs/platforms.md and README.md, and what of older runs stays."""

import tempfile
import unittest

import platforms_page

PAGE = """before
<!-- ./dev x: begin -->
| what | seen |
|---|---|
| 3.9 | nothing |
| 3.10 | old |
<!-- ./dev x: end -->
after
"""
TABLES = """<!-- ./dev matrix: begin -->
| Python | own tests | of subprocess |
|---|---|---|
| 3.10.13 | 5 ran, none failed | 7 ran |
| 3.11.2 of Debian | 5 ran, none failed | 7 ran |
| 3.11.7 | 5 ran, 2 failed | 7 ran |
| 3.13.0 | 5 ran, none failed | 7 ran, FAILED, subprocesses.log |
| 3.13.5 free-threaded | 5 ran, none failed | |
<!-- ./dev matrix: end -->
<!-- ./dev wheels: begin -->
<!-- ./dev wheels: end -->
<!-- ./dev root: begin -->
| where | `./dev demo` | `./dev test` |
|---|---|---|
| Debian 13, unity | passed | 12 passed, none failed |
| Debian sid | FAILED | 12 passed, none failed |
<!-- ./dev root: end -->
<!-- ./dev kernels: begin -->
| kernel | test cases |
|---|---|
| Linux 5.10.0-32 | 13 of scenes, none failed |
| gvisor | 13 of scenes, none failed |
| kernel-5.10 | 13 of scenes, none failed |
<!-- ./dev kernels: end -->
"""
SAID = """The Python package's tests passed with Python 3.10 and 3.13 free-threaded; not all did on 3.11 (5
ran, 2 failed) and 3.13 (see the table).
`./dev demo` and `./dev test` passed on Debian 13; what is chosen for kernels passed on Linux 5.10
and gvisor; not all did on Debian sid (see the table).
"""


def empty(name):
    return f"<!-- ./dev {name}: begin -->\n<!-- ./dev {name}: end -->\n"


class Pages(unittest.TestCase):
    def file(self, text):
        file = self.enterContext(tempfile.NamedTemporaryFile("w+"))
        file.write(text)
        file.flush()
        return file.name

    def setUp(self):
        self.others = "".join(map(empty, platforms_page.SAID))
        self.page = self.file(PAGE + self.others)
        self.readme = self.file("a\n<!-- of docs/platforms.md: begin -->\nold\n"
                                "<!-- of docs/platforms.md: end -->\nb\n")


class Page(Pages):
    def written(self, *rows, columns=("what", "seen"), **options):
        platforms_page.update("x", list(columns), rows, page=self.page, readme=self.readme,
                              **options)
        with open(self.page) as file:
            return file.read()[:-len(self.others)]

    def test_rows_of_older_runs_stay(self):
        self.assertEqual(self.written(["3.10", "new"]), PAGE.replace("| old |", "| new |"))

    def test_rows_of_older_columns_stay_under_the_columns_that_are_still_there(self):
        self.written(["3.11", "2026", "new"], columns=["what", "when", "seen"])
        self.assertIn("| what | when | seen |\n|---|---|---|\n| 3.9 |  | nothing |\n"
                      "| 3.10 |  | old |\n| 3.11 | 2026 | new |\n",
                      self.written(columns=["what", "when", "seen"]))

    def test_a_row_that_lacks_cells_stays(self):
        with open(self.page, "r+") as file:
            text = file.read().replace("| 3.9 | nothing |", "| 3.9 |")
            file.seek(0)
            file.write(text)
            file.truncate()
        self.assertIn("| 3.9 |  |\n| 3.10 | old |", self.written())

    def test_an_empty_cell_is_one(self):
        self.assertIn("| 3.10 |  |\n", self.written(["3.10", ""]))
        self.assertIn("| 3.10 |  |\n", self.written())

    def test_a_cell_that_was_not_asked_for_stays(self):
        self.assertIn("| 3.10 | old |\n| 3.11 |  |\n", self.written(["3.10", None], ["3.11", None]))

    def test_points_are_collected(self):
        self.written(heading="Left out:", points=["b"])
        self.assertIn("| old |\n\nLeft out:\n\n- a\n- b\n<!--",
                      self.written(heading="Left out:", points=["a", "b"]))

    def test_long_points_are_of_several_lines_and_stay_one(self):
        long = " ".join(["words"] * 40)
        for _ in range(2):
            text = self.written(heading="Left out:", points=[long])
            self.assertLessEqual(max(map(len, text.splitlines())), 100)
            self.assertEqual(platforms_page.points_of(text), {long})
            self.assertEqual(text.count("words"), 40)

    def test_a_table_that_is_not_there_is_an_error(self):
        with self.assertRaisesRegex(ValueError, "has no <!-- ./dev y: begin -->"):
            platforms_page.update("y", ["what", "seen"], [], page=self.page, readme=self.readme)


class Readme(Pages):
    def test_words_tell_what_passed_and_what_did_not(self):
        self.assertEqual(platforms_page.words(self.file(TABLES)), SAID)

    def test_a_run_writes_them(self):
        self.page = self.file(TABLES)
        platforms_page.update("wheels", ["interpreter", "tests in the empty root"],
                              [["3.14.1", "6 ran, none failed"]], page=self.page,
                              readme=self.readme)
        self.assertIn("wheels alone\nwith 3.14;", platforms_page.said_in(self.readme)[1])
        self.assertEqual(platforms_page.said_in(self.readme)[1], platforms_page.words(self.page))

    def test_the_readme_says_what_the_tables_say(self):
        self.assertEqual(platforms_page.said_in(platforms_page.README)[1], platforms_page.words(),
                         "/usr/bin/python3 tests/helpers/platforms_page.py writes it anew")

    def test_each_row_of_the_page_has_the_cells_of_its_table(self):
        for name in platforms_page.SAID:
            table = platforms_page.parts_of(name, platforms_page.PAGE)[1]
            lines = [line for line in table.splitlines() if line.startswith("| ")]
            self.assertEqual({len(platforms_page.cells_of(line)) for line in lines[1:]}
                             - {len(platforms_page.cells_of(lines[0])) if lines else 0}, set(), name)


if __name__ == "__main__":
    unittest.main()
