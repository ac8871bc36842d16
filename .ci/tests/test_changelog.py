"""Change notes are checked and become a section of the changelog."""

import pathlib
import subprocess
import sys
import tempfile
import unittest

TOOL = pathlib.Path(__file__).resolve().parent.parent / "changelog"
HEAD = "# Changelog\n\n## [Unreleased]\n\nThe notes so far are the files in [docs/changes](docs/changes).\n"


class Notes(unittest.TestCase):
    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.root = pathlib.Path(holder.name)
        self.folder = self.root / "docs" / "changes"
        self.folder.mkdir(parents=True)
        (self.folder / "README.md").write_text("# Change notes\n")
        (self.root / "CHANGELOG.md").write_text(HEAD)

    def note(self, name, text="Something new.\n"):
        (self.folder / name).write_text(text)

    def run_tool(self, *argv):
        ran = subprocess.run([sys.executable, TOOL, "--root", self.root, *argv], capture_output=True, text=True)
        return ran.returncode, ran.stdout + ran.stderr

    def test_accepts_a_well_named_note(self):
        self.note("spill-file-limit.added.md")
        self.assertEqual(self.run_tool("check"), (0, "changelog: 1 notes, 0 refused\n"))

    def test_refuses_other_names(self):
        for name in ("spill.new.md", "Spill.added.md", "spill_file.added.md", "spill.added.txt", ".added.md"):
            with self.subTest(name):
                self.note(name)
                self.assertEqual(self.run_tool("check")[0], 1)
                (self.folder / name).unlink()

    def test_refuses_empty_notes_headings_and_lists(self):
        for text in ("", " \n", "# Spill\n", "- one\n- two\n"):
            with self.subTest(text):
                self.note("spill.added.md", text)
                self.assertEqual(self.run_tool("check")[0], 1)

    def test_release_moves_the_notes_by_kind_and_deletes_them(self):
        self.note("b.fixed.md", "A bug is\ngone.\n")
        self.note("a.breaking.md", "Rename `x` to `y`.\n")
        self.assertEqual(self.run_tool("release", "0.2.0", "--date", "2026-12-01")[0], 0)
        section = (
            "\n## [0.2.0] - 2026-12-01\n\n### Breaking\n\n- Rename `x` to `y`.\n\n### Fixed\n\n- A bug is gone.\n"
        )
        self.assertEqual((self.root / "CHANGELOG.md").read_text(), HEAD + section)
        self.assertEqual([path.name for path in self.folder.iterdir()], ["README.md"])

    def test_release_refuses_a_version_twice_and_an_empty_section(self):
        self.assertEqual(self.run_tool("release", "0.2.0")[0], 1)
        self.note("a.added.md")
        self.assertEqual(self.run_tool("release", "0.2.0")[0], 0)
        self.note("b.added.md")
        self.assertEqual(self.run_tool("release", "0.2.0")[0], 1)
        self.assertTrue((self.folder / "b.added.md").exists())


if __name__ == "__main__":
    unittest.main()
