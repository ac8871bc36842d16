"""Demos of examples/, run as they are or altered."""

import os
import shutil
import subprocess
import sys

from conftest import BIN, ROOT


def run(folder, tmp_path):
    """-> exit code, what was printed, what was complained of"""
    # Relative, as the Makefile gives it.
    environment = {**os.environ, "ESTOPPEL_BIN_DIR": os.path.relpath(BIN), "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, folder / "demo.py"], env=environment, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout, done.stderr


def altered(demo, tmp_path, file, before, after):
    """A copy in which one text is another."""
    folder = tmp_path / "demo"
    shutil.copytree(demo, folder)
    shutil.copy(ROOT / "examples/stage.py", tmp_path)
    text = (folder / file).read_text()
    assert before in text
    (folder / file).write_text(text.replace(before, after))
    return folder
