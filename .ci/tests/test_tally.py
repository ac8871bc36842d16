"""The tally reads the closing lines of the runners that the stages use."""

import pathlib
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import tally


def counted(text):
    return tally.count(text.splitlines(keepends=True))


class Count(unittest.TestCase):
    def test_nextest(self):
        green = "     Summary [   1.204s] 12 tests run: 12 passed (1 slow), 3 skipped"
        red = "     Summary [   1.204s] 9/12 tests run: 7 passed, 1 failed, 1 timed out, 3 skipped"
        one = "     Summary [   0.004s] 1 test run: 1 passed, 0 skipped"
        self.assertEqual(counted(green), (12, 0, 3))
        self.assertEqual(counted(red), (7, 2, 3))
        self.assertEqual(counted(one), (1, 0, 0))
        self.assertEqual(
            counted("\x1b[32;1m     Summary\x1b[0m [   1.2s] \x1b[1m2\x1b[0m tests run: 2 passed, 0 skipped"),
            (2, 0, 0),
        )

    def test_cargo_test_adds_up_over_binaries(self):
        line = "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n"
        self.assertEqual(counted(line * 2), (6, 0, 2))
        self.assertEqual(
            counted("test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out"), (1, 2, 0)
        )

    def test_unittest(self):
        self.assertEqual(counted("Ran 5 tests in 0.003s\n\nOK\n"), (5, 0, 0))
        self.assertEqual(counted("Ran 5 tests in 0.003s\n\nOK (skipped=2)\n"), (3, 0, 2))
        self.assertEqual(counted("Ran 5 tests in 0.003s\n\nFAILED (failures=1, errors=1, skipped=1)\n"), (2, 2, 1))

    def test_pytest(self):
        self.assertEqual(counted("======= 3 passed, 1 failed, 2 skipped in 0.12s ======="), (3, 1, 2))
        self.assertEqual(counted("4 passed in 61.01s (0:01:01)"), (4, 0, 0))
        self.assertEqual(counted("==== 1 passed, 1 error, 3 warnings in 0.10s ===="), (1, 1, 0))

    def test_node(self):
        tap = "# tests 5\n# suites 0\n# pass 3\n# fail 1\n# cancelled 0\n# skipped 1\n# todo 0\n"
        self.assertEqual(counted(tap), (3, 1, 1))
        self.assertEqual(counted(tap.replace("#", "ℹ")), (3, 1, 1))

    def test_plain(self):
        self.assertEqual(counted("7 passed, 0 failed"), (7, 0, 0))
        self.assertEqual(counted("vectors: 7 passed, 1 failed, 2 skipped"), (7, 1, 2))

    def test_prose_does_not_count(self):
        self.assertEqual(counted("all 3 passed\nwe saw 2 passed, 1 failed here\nOK\n"), (0, 0, 0))


class Total(unittest.TestCase):
    def test_sums_the_rows(self):
        self.assertEqual(
            tally.total(["lint 10 0 0 0\n", "rust 2000 40 1 2\n", "clients 5 3 0 0\n"]),
            "43 passed, 1 failed, 2 skipped",
        )

    def test_a_run_that_leaves_out_a_language_is_red(self):
        rows = [f"{name} 10 3 0 0\n" for name in tally.NEEDED]
        self.assertEqual(tally.idle(rows), [])
        for at, name in enumerate(tally.NEEDED):
            with self.subTest(name):
                self.assertEqual(tally.idle(rows[:at] + rows[at + 1 :]), [name])
                self.assertEqual(tally.idle([*rows[:at], f"{name} 10 0 0 9\n", *rows[at + 1 :]]), [name])

    def test_the_program_ends_with_1_when_a_language_is_left_out(self):
        program = pathlib.Path(tally.__file__)
        with tempfile.TemporaryDirectory() as folder:
            rows = pathlib.Path(folder) / "rows"
            for left_out, code in ((0, 0), (1, 1)):
                rows.write_text("".join(f"{name} 10 3 0 0\n" for name in tally.NEEDED[left_out:]))
                ran = subprocess.run([sys.executable, program, "--total", rows], capture_output=True, text=True)
                self.assertEqual(ran.returncode, code, ran.stdout)
                self.assertRegex(ran.stdout.splitlines()[-1], r"^\d+ passed, 0 failed, 0 skipped$")


if __name__ == "__main__":
    unittest.main()
