"""The vectors of lists and of certificates are what their generators write."""

import pathlib
import subprocess
import sys
import unittest

FOLDER = pathlib.Path(__file__).resolve().parent


class Lists(unittest.TestCase):
    def test_the_vectors_are_what_the_generator_writes(self):
        for program in ("make_lists.py", "make_replay_vectors.py"):
            checked = subprocess.run([sys.executable, program, "--check"], cwd=FOLDER, capture_output=True, text=True)
            self.assertEqual((checked.returncode, checked.stderr), (0, ""), program)


if __name__ == "__main__":
    unittest.main()
