"""`make demo-mcp` as its user sees it."""

import os
import shlex
import subprocess
import sys

from conftest import BIN, ROOT, wait_for
from demos import altered

DEMO = ROOT / "examples/mcp-demo"


def start(tmp_path, folder=DEMO, **more):
    environment = {**os.environ, "ESTOPPEL_BIN_DIR": os.path.relpath(BIN), "TMPDIR": str(tmp_path), **more}
    out, err = open(tmp_path / "out", "w"), open(tmp_path / "err", "w")
    return subprocess.Popen([sys.executable, folder / "demo.py"], env=environment, stdout=out, stderr=err)


def ended(tmp_path, process):
    code = process.wait(120)
    return code, (tmp_path / "out").read_text(), (tmp_path / "err").read_text()


def test_the_demo_shows_all_that_it_promises(tmp_path):
    code, out, err = ended(tmp_path, start(tmp_path))
    assert code == 0, out + err
    assert "nobody runs commands" in out and "approved by ada" in out and "tool `look_up_order`" in out
    for word in ("feed ", "metric ", "receipt "):
        assert out.count(f"\n   {word}") == 3, out
    assert "integrity ok" in out and "authenticity trusted" in out


def test_a_person_can_approve_with_the_command_that_it_prints(tmp_path):
    process = start(tmp_path, STEP="1")

    def printed():
        assert process.poll() is None, (tmp_path / "err").read_text()
        lines = (tmp_path / "out").read_text().splitlines()
        return next((line for line in lines if " hold approve " in line), None)

    words = shlex.split(wait_for("the command", printed, 60))
    subprocess.run(words, check=True, capture_output=True)
    code, out, err = ended(tmp_path, process)
    assert code == 0, out + err


def test_the_demo_fails_where_the_policy_does_not_do_its_part(tmp_path):
    folder = altered(DEMO, tmp_path, "policy.yaml", "tool: run_shell", "tool: other")
    code, out, err = ended(tmp_path, start(tmp_path, folder))
    assert (code, out.count("receipt")) == (1, 0) and "missing: the denied tool" in err
