"""Runs the Python and the JavaScript verifier on one bundle and compares their answers; see .ci/verify-bundle.

With --vectors, does so for every published vector, and compares with what the vector says, too.
"""

import argparse
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
VERIFIERS = {
    "python": ["python3", "spec/verifiers/python/pef_verify.py"],
    "javascript": ["node", "spec/verifiers/javascript/pef-verify.mjs"],
}
# What two verifiers of one specification must agree on. Texts may differ.
ANSWER = ("ok", "reason", "seq", "index", "verdicts")
# … where a stream is asked about …
EVENTS = ("stream", "unit")
BODY = ("body",)
# … and what they must have read alike when they accept.
CONTENT = ("kind", "run", "entries")
# What may stand in a vector's folder, beside expect.json; ask.json asks about a stream.
INPUTS = ("bundle.pef.zip", "bundle", "journal", "receipt.dsse.json")
BESIDE = {
    "trust": "trust.json",
    "key": "key.pem",
    "against": "against",
    "disclosure": "disclosure.json",
    "events": "events",
    "content": "content",
}


def ask(command, path, **given):
    """(exit code, the answer's compared members or None, everything that was printed)"""
    options = [word for name, file in given.items() if file for word in (f"--{name}", str(file))]
    argv = [command[0], str(ROOT / command[1]), "--json", *options, str(path)]
    ran = subprocess.run(argv, capture_output=True, text=True)
    try:
        answer = json.loads(ran.stdout)
        members = {name: answer[name] for name in (*ANSWER, *(CONTENT if ran.returncode == 0 else ()))}
        members |= {name: answer[name] for name in EVENTS if "stream" in answer}
        members |= {name: answer[name] for name in BODY if name in answer}
    except (ValueError, KeyError, TypeError):
        members = None
    return ran.returncode, members, (ran.stdout + ran.stderr).strip()


def judge(answers, expect):
    """Yields what is wrong with the answers, {verifier: (code, members, text)}."""
    for name, (code, members, text) in answers.items():
        if code not in (0, 2):
            yield f"{name}: could not verify (exit {code}): {text}"
        elif members is None:
            yield f"{name}: its answer is not of the agreed form: {text}"
        elif code == 0 and expect == "refused":
            yield f"{name}: accepted what had to be refused"
        elif code == 2 and expect == "accepted":
            yield f"{name}: refused: {members['reason']}"
    first, second = answers
    if answers[first][:2] != answers[second][:2]:
        yield f"{first} and {second} disagree: {answers[first][:2]} and {answers[second][:2]}"


def in_words(code, members):
    if members is None:
        return f"exit {code}"
    place = "" if members["seq"] is None else f" at seq {members['seq']}"
    verdicts = ", ".join(f"{name} {value}" for name, value in members["verdicts"].items())
    return f"exit {code}: {'' if members['ok'] else members['reason'] + place + '; '}{verdicts}"


def one(path, trust, expect):
    answers = {name: ask(command, path, trust=trust) for name, command in VERIFIERS.items()}
    for name, (code, members, _) in answers.items():
        print(f"{name}: {in_words(code, members)}")
    faults = list(judge(answers, expect))
    for fault in faults:
        print(fault)
    if not faults:
        print(f"{path}: {expect} by both")
    return 2 if faults else 0


def vector(folder):
    """Yields what is wrong with the answers to one vector."""
    corrected = folder / "expect-2.json"
    expected = json.loads((corrected if corrected.exists() else folder / "expect.json").read_text())
    path = next((folder / name for name in INPUTS if (folder / name).exists()), None)
    if path is None:
        yield "has no input"
        return
    beside = {
        name: folder / file
        for name, file in BESIDE.items()
        if (folder / file).exists()
    }
    if (folder / "ask.json").exists():
        asked = json.loads((folder / "ask.json").read_text())
        beside |= {"body" if "part" in asked else "stream": asked["call"]}
        beside |= {"part": asked["part"]} if "part" in asked else {}
        beside |= ({"place": str(asked["place"])} if "place" in asked else {})
    answers = {name: ask(command, path, **beside) for name, command in VERIFIERS.items()}
    for name, (code, members, text) in answers.items():
        said = {"exit": code, **(members or {})}
        wrong = [
            member for member in ("exit", *ANSWER, *EVENTS, *BODY) if member in expected and said.get(member) != expected[member]
        ]
        if wrong:
            yield f"{name}: {', '.join(wrong)} differ from expect.json: {text}"
    first, second = answers
    if answers[first][:2] != answers[second][:2]:
        yield f"{first} and {second} disagree"


def vectors(root):
    passed = failed = 0
    for folder in sorted(path.parent for path in root.glob("*/expect.json")):
        faults = list(vector(folder))
        for fault in faults:
            print(f"{folder.name}: {fault}")
        passed, failed = passed + (not faults), failed + bool(faults)
    if passed + failed == 0:
        print(f"{root} has no vectors")
        return 2
    print(f"{passed} passed, {failed} failed")
    return 2 if failed else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    # 2 means refused; wrong arguments are 6, as in the verifiers.
    parser.error = lambda message: parser.exit(6, f"{parser.format_usage()}verify-bundle: {message}\n")
    parser.add_argument("--expect", choices=("accepted", "refused"), default="accepted")
    parser.add_argument("--vectors", type=pathlib.Path, metavar="FOLDER")
    parser.add_argument("bundle", nargs="?")
    parser.add_argument("trust", nargs="?")
    args = parser.parse_args()
    if args.vectors:
        return vectors(args.vectors)
    if not args.bundle:
        parser.error("a bundle is needed")
    return one(args.bundle, args.trust, args.expect)


if __name__ == "__main__":
    sys.exit(main())
