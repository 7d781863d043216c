"""The goals of goals.json, for the benchmarks in Python."""

import json
import os


class Goals:
    """What was measured beside what it is to be. One that is missed fails nothing: times are of
    the machine and of its hour. What must not get more is counted: test_counts.py."""

    def __init__(self):
        with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "goals.json")) as f:
            self.rows = [row for row in json.load(f) if row["part"] == "python"]

    def measured(self, name, value):
        row = next(row for row in self.rows if row["id"] == name)
        row["value"] = value
        row["reached"] = row.get("at_least", value) <= value <= row.get("at_most", value)

    def print(self):
        print(f"\n{'goals':64s} {'':8s} {'':20s} {'goal':>8s}")
        for row in self.rows:
            sign, limit = next(((sign, row[key]) for key, sign in (("at_most", "<="),
                                                                   ("at_least", ">="))
                                if key in row), ("", None))
            value = f"{row['value']:.2f}" if "value" in row else ""
            told = ("not measured" if not value else "" if limit is None else
                    "reached" if row["reached"] else "missed")
            print(f"{row['work']:64s} {value:>8s} {row['than']:20s} "
                  f"{f'{sign} {limit:.2f}' if sign else '-':>8s}  {told}")
