"""The three verifiers side by side, each in one process that answers many questions."""

import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "spec/verifiers/python"))

import pef_verify  # noqa: E402

PROGRAMS = pathlib.Path(os.environ.get("ESTOPPEL_BIN_DIR", ROOT / "target/debug"))
JUDGE = PROGRAMS / "examples/judge"
INPUTS = ("bundle.pef.zip", "bundle", "journal", "receipt.dsse.json")
BESIDE = {
    "trust": "trust.json",
    "key": "key.pem",
    "against": "against",
    "disclosure": "disclosure.json",
    "events": "events",
    "content": "content",
}
#: What verifiers of one specification must agree on; `CONTENT` where they accept.
ANSWER = ("exit", "reason", "seq", "index", "verdicts", "stream", "unit", "body")
CONTENT = ("kind", "run", "entries")


def question(folder):
    """The input in a folder that is laid out as a vector, and the options beside it."""
    path = next(folder / name for name in INPUTS if os.path.lexists(folder / name))
    options = {name: folder / file for name, file in BESIDE.items() if (folder / file).exists()}
    if (folder / "ask.json").exists():
        asked = json.loads((folder / "ask.json").read_bytes())
        options |= {"body" if "part" in asked else "stream": asked["call"]}
        options |= {name: asked[name] for name in ("place", "part") if name in asked}
    return path, options


def compared(answer):
    return {name: answer.get(name) for name in (*ANSWER, *(CONTENT if answer["exit"] == 0 else ()))}


def words(folder):
    path, options = question(folder)
    return [word for name, file in options.items() for word in (f"--{name}", str(file))] + [str(path)]


class Lines:
    """A process that answers a line with a line."""

    def __init__(self, *command):
        self.process = subprocess.Popen(
            command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            return {"exit": 1, "reason": f"the process ended with {self.process.wait()}"}
        return json.loads(line)

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


class Three:
    def __init__(self):
        self.rust = Lines(str(JUDGE))
        self.javascript = Lines("node", "test/vectors/ask.mjs")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.rust.close()
        self.javascript.close()

    def judge(self, folder):
        """What each verifier says of the input in `folder`."""
        self.rust.ask(str(folder))
        self.javascript.ask(json.dumps(words(folder)))
        answers = {"python": python(folder), "rust": self.rust.answer(), "javascript": self.javascript.answer()}
        return {name: compared(answer) for name, answer in answers.items()}


def python(folder):
    path, options = question(folder)
    try:
        return pef_verify.verify_path(path, **options)
    except Exception as error:  # noqa: BLE001 - a crash is an answer, and a wrong one
        return {"exit": 1, "reason": repr(error)}
