"""`make let-through` as its user sees it; and each of its rows where our side does not do its part."""

import os
import re
import subprocess
import sys

import pytest

from conftest import BIN, ROOT
from demos import altered

FOLDER = ROOT / "examples/let-through"
SHARED = {"scene", "repository", "table"}

# A program in the place of estoppel. `HOLLOW` sees what the real one answered to these words, and makes another answer of it.
INSTEAD = """#!{python}
import json, os, pathlib, subprocess, sys
words = [word for word in sys.argv[1:] if word != "--json"]
if words[: len({of!r})] != {of!r}:
    os.execv({real!r}, [{real!r}, *sys.argv[1:]])
done = subprocess.run([{real!r}, *sys.argv[1:]], capture_output=True, text=True)
answer = json.loads(done.stdout.splitlines()[-1])
{hollow}
print(json.dumps(answer))
"""
SAYS_YES = 'answer = {"ok": True, "data": {"ok": True}}'

# Rows whose own text is altered: before, after, what is missing then.
ALTERED = {
    "other_proof": ('GATES = {"evidence_bundle": ', 'GATES = {}\nASKED = {"evidence_bundle": ', "exit 3 of"),
    "split_tool_call": ("greater_than: 50000 ", "greater_than: 50000000 ", "no byte of the arguments reaches the client"),
    "unread_call": ("defaults: { verdict: allow }", "defaults: { verdict: allow, on_not_evaluated: allow }", "what nobody can read is refused"),
    "used_up_replay": ("status, _, body, _ = post(url,", "status, _, body, _ = post(gateway.url,", "a second one was not recorded"),
}

# Rows that get a hollow program: what is asked of it, what it makes of the answer, what is missing then.
HOLLOW = {
    "false_pipeline": (["evolution", "start"], 'answer["data"] |= {"result": "PASSED", "tag": "v1.0.0-rc.1"}', "exit 3 of"),
    "failed_again": (["promote"], 'answer = {"ok": True, "data": {"tag": "v1.0.0", "gates": []}}', "exit 3 of"),
    "renamed_tag": (["verify", "tag"], SAYS_YES, "exit 2 of"),
    "altered_bundle": (["verify"], SAYS_YES, "exit 2 of"),
    "lost_entries": (["verify"], SAYS_YES, "exit 2 of"),
    "self_compare": (["regress", "run"], SAYS_YES, "exit 5 of"),
    "hollow_replay": (["replay", "run"], 'answer["data"]["certificate"] |= {"status": "success", "reasons": []}', "exit 2 of"),
    "cut_stream": (
        ["show"],
        '[entry.get("outcome", {}).update(code="OK", complete=True) for entry in answer["data"]["entries"]]',
        "TRUNCATED",
    ),
    "audit_load": (["show"], 'answer["data"]["entries"].pop(7)', "there are 299"),
    "csv_formula": (
        ["audit", "export"],
        'out = pathlib.Path(words[words.index("--out") + 1]); out.write_text(out.read_text().replace("\'=", "="))',
        "no cell is a formula",
    ),
    "empty_report": (["compliance", "report"], 'answer["data"]["frameworks"][0]["controls"][0]["state"] = "pass"', "no evidence, but for"),
}


def run(script, tmp_path, programs=BIN):
    """-> exit code, what was printed, what was complained of"""
    environment = {**os.environ, "ESTOPPEL_BIN_DIR": os.path.relpath(programs), "ESTOPPEL_SPEC_DIR": str(ROOT / "spec"), "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=600)
    return done.returncode, done.stdout, done.stderr


def hollow(tmp_path, of, code):
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "estoppeld").symlink_to(BIN / "estoppeld")
    program = folder / "estoppel"
    program.write_text(INSTEAD.format(python=sys.executable, of=of, real=str(BIN / "estoppel"), hollow=code))
    program.chmod(0o755)
    return folder


def rows():
    return {path.stem for path in FOLDER.glob("*.py")} - SHARED


def test_every_row_holds_and_stands_in_the_readme(tmp_path):
    code, out, err = run(FOLDER / "table.py", tmp_path)
    assert code == 0, out + err
    assert f"{len(rows())} of {len(rows())} hold" in out
    linked = re.findall(r"\]\(examples/let-through/(\w+)\.py\)", (ROOT / "README.md").read_text())
    assert linked == re.findall(r"again +python3 examples/let-through/(\w+)\.py", out)
    assert set(linked) == rows()


def test_each_row_is_weakened_in_one_way():
    assert sorted([*ALTERED, *HOLLOW]) == sorted(rows())


@pytest.mark.parametrize("name", sorted(ALTERED))
def test_a_row_fails_where_what_it_goes_by_is_looser(name, tmp_path):
    before, after, missing = ALTERED[name]
    folder = altered(FOLDER, tmp_path, f"{name}.py", before, after)
    code, out, err = run(folder / f"{name}.py", tmp_path)
    assert (code, out) == (1, "") and err.startswith("missing: ") and missing in err, out + err


@pytest.mark.parametrize("name", sorted(HOLLOW))
def test_a_row_fails_where_the_program_is_hollow(name, tmp_path):
    of, code, missing = HOLLOW[name]
    done, out, err = run(FOLDER / f"{name}.py", tmp_path, hollow(tmp_path, of, code))
    assert (done, out) == (1, "") and err.startswith("missing: ") and missing in err, out + err
