"""A name that a spreadsheet would run as a formula is exported as text."""

import csv

from repository import Repository
from scene import check, shown

WHAT = "an exported audit trail runs formulas in a spreadsheet"
OTHERS = (
    "EpykLab/gryt-ci at 51edfca, gryt/audit.py: cells are written as they are; "
    "TheMorpheus407/the-dmz issue 361 (2026-03-19, open as of 2026-09)"
)
FORMULA = '=HYPERLINK("http://127.0.0.1/"&A1,"see here")'


def show(scene):
    repository = Repository(scene)
    repository.keys["eve"] = scene.key("eve")
    repository.estoppel("roles", "grant", repository.keys["eve"][1], "--name", FORMULA, "--role", "author", key="ada")
    repository.seal("1.0.0", ["true"], key="eve")
    audit = scene.folder / "audit.csv"
    repository.estoppel("audit", "export", "--format", "csv", "--out", audit)
    with open(audit, newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    named = [cell for cell in cells if cell.endswith(FORMULA)]
    check(f"the name stands in the export: {cells}", named)
    check(f"no cell is a formula: {named}", not [cell for cell in cells if cell.startswith(tuple("=+-@\t\r"))])
    repository.estoppel("audit", "verify", audit)
    return "the cell begins with an apostrophe, and the export verifies", named[0]


if __name__ == "__main__":
    shown(WHAT, OTHERS, show)
