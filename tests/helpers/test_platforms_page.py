"""What a run of ./dev writes into docs/platforms.md, and what of older runs stays there."""

import tempfile
import unittest

import platforms_page

PAGE = """before
<!-- ./dev x: begin -->
| what | seen |
|---|---|
| 3.9 | nothing |
| 3.10 | old |
| 3.11 | of | other columns |
<!-- ./dev x: end -->
after
"""


class Page(unittest.TestCase):
    def setUp(self):
        file = self.enterContext(tempfile.NamedTemporaryFile("w+"))
        file.write(PAGE)
        file.flush()
        self.page = file.name

    def written(self, *rows, **options):
        platforms_page.update("x", ["what", "seen"], rows, page=self.page, **options)
        with open(self.page) as file:
            return file.read()

    def test_rows_of_older_runs_stay_unless_their_columns_are_others(self):
        wanted = PAGE.replace("| old |", "| new |").replace("| 3.11 | of | other columns |\n", "")
        self.assertEqual(self.written(["3.10", "new"]), wanted)

    def test_an_empty_cell_is_one(self):
        self.assertIn("| 3.10 |  |\n", self.written(["3.10", ""]))
        self.assertIn("| 3.10 |  |\n", self.written())

    def test_points_are_collected(self):
        self.written(heading="Left out:", points=["b"])
        self.assertIn("| old |\n\nLeft out:\n\n- a\n- b\n<!--",
                      self.written(heading="Left out:", points=["a", "b"]))

    def test_a_table_that_is_not_there_is_an_error(self):
        with self.assertRaisesRegex(ValueError, "no table of ./dev y"):
            platforms_page.update("y", ["what", "seen"], [], page=self.page)
