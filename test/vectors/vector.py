"""A vector: its files, and the answer that every verifier must give (README.md says how it follows)."""

import json
import re

from run import Bundle

AUTHENTICITY = {"G2", "G3", "M6", "M7", "L8", "L10", "L11", "L13", "L14", "T3", "K1", "K2"}
#: Steps after which a verdict is settled, in the order of SPEC section 11.
AFTER_X = {"A1", "A2", "A3", "K1", "K2", "Z1"}
AFTER_A = {"K1", "K2", "Z1"}
VECTORS = {}


class Link(bytes):
    """A symbolic link; the bytes are its target."""


def passed(*, trusted=False, anchored=False):
    return expect(
        0,
        integrity="ok",
        authenticity="trusted" if trusted else "self_asserted",
        completeness="complete",
        anchoring="anchored" if anchored else "absent",
    )


def failed(step, reason, seq=None, index=None, *, trusted=False, anchored=False):
    """The answer when `step` is the first that fails; `index` is given for journals only."""
    verdicts = {}
    if step in AFTER_X and index is None:
        verdicts["completeness"] = "complete"
    if step in AFTER_A and index is None:
        verdicts["anchoring"] = "anchored" if anchored else "absent"
    if step == "Z1":
        verdicts["authenticity"] = "trusted" if trusted else "self_asserted"
    if step in AUTHENTICITY:
        verdicts["authenticity"] = "failed"
    elif step == "S1":
        verdicts["completeness"] = "open"
    elif step in ("X1", "X2", "J8", "G6"):
        verdicts["completeness"] = "failed"
    elif step[0] == "A":
        verdicts["anchoring"] = "failed"
    else:
        verdicts["integrity"] = "failed"
    return expect(2, reason, seq, index, **verdicts)


def unusable(reason="TRUST_INVALID"):
    """Exit code 6: the reader's own input is at fault, and nothing is said about the evidence."""
    return expect(6, reason)


def expect(exit_code, reason=None, seq=None, index=None, **verdicts):
    names = ("integrity", "authenticity", "completeness", "anchoring")
    return {
        "exit": exit_code,
        "reason": reason,
        "seq": seq,
        "index": index,
        "verdicts": {name: verdicts.get(name, "unchecked") for name in names},
    }


def written(answer):
    """JSON on three lines."""
    about, verdicts = json.dumps(answer["about"]), json.dumps(answer["verdicts"])
    names = ("exit", "reason", "seq", "index", *(("stream", "unit") if "stream" in answer else ()), *(("body",) if "body" in answer else ()))
    rest = json.dumps({name: answer[name] for name in names})[1:-1]
    return f'{{"about": {about},\n {rest},\n "verdicts": {verdicts}}}\n'.encode()


def vector(name, about, expected, artifact, *, trust=None, directory=False, corrected=None):
    """Registers one vector. `artifact` is a Bundle, the bytes of a ZIP, or files by path.

    What is published never changes: where `expected` turned out to be wrong, `corrected` takes its place."""
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", name) or name in VECTORS:
        raise ValueError(f"bad or second vector name: {name}")
    if isinstance(artifact, Bundle):
        files = {"bundle/" + path: data for path, data in artifact.files.items()} if directory else {}
        files = files or {"bundle.pef.zip": artifact.zip()}
        beside = "bundle.d/" if directory else "bundle.pef.zip.d/"
        files |= {beside + path: data for path, data in artifact.externals.items()}
    else:
        files = {"bundle.pef.zip": artifact} if isinstance(artifact, bytes) else dict(artifact)
    if trust is not None:
        files["trust.json"] = trust
    files["expect.json"] = written({"about": about, **expected})
    if corrected is not None:
        files["expect-2.json"] = written({"about": about, **corrected})
    VECTORS[name] = files
