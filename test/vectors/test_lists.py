"""The vectors of both lists are what make_lists.py writes."""

import pathlib
import subprocess
import sys
import unittest

FOLDER = pathlib.Path(__file__).resolve().parent


class Lists(unittest.TestCase):
    def test_the_vectors_are_what_the_generator_writes(self):
        checked = subprocess.run([sys.executable, "make_lists.py", "--check"], cwd=FOLDER, capture_output=True, text=True)
        self.assertEqual((checked.returncode, checked.stderr), (0, ""))


if __name__ == "__main__":
    unittest.main()
