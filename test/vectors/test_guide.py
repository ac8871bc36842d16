"""Every example of spec/IMPLEMENTERS.md runs, and its assertions hold."""

import pathlib
import re
import subprocess
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
GUIDE = ROOT / "spec" / "IMPLEMENTERS.md"
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def examples(language):
    return [code for found, code in FENCED.findall(GUIDE.read_text(encoding="utf-8")) if found == language]


def run(*command, text):
    return subprocess.run(command, input=text, cwd=ROOT, text=True, capture_output=True, timeout=120)


class Guide(unittest.TestCase):
    def test_every_example_is_one_that_is_run(self):
        text = GUIDE.read_text(encoding="utf-8")
        languages = [language for language, _ in FENCED.findall(text)]
        self.assertEqual(set(languages), {"python", "sh"})
        self.assertEqual(text.count("```"), 2 * len(languages))

    def test_the_python_examples_are_one_program(self):
        program = "".join(examples("python"))
        done = run(sys.executable, "-I", "-", text=program)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        # With other evidence under the same name the program must not end well.
        forged = program.replace('"valid-minimal" / "bundle.pef.zip"', '"forged-checkpoint-root" / "bundle.pef.zip"')
        self.assertNotEqual(run(sys.executable, "-I", "-", text=forged).returncode, 0)

    def test_each_shell_example_runs(self):
        for code in examples("sh"):
            with self.subTest(code):
                done = run("bash", "-euo", "pipefail", text=code)
                self.assertEqual(done.returncode, 0, done.stderr)


if __name__ == "__main__":
    unittest.main()
