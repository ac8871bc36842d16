"""Documents for the schemas: spec/pef/vectors/schemas/<schema>.ndjson, each with whether the schema accepts it.

A line is `{"about":…,"document":…,"valid":…}`. The refused ones come of accepted ones by changes that no schema
of PEF allows anywhere: a value of another type, an unknown member, and, in documents that have nothing optional, an
absent member.
"""

import json
import re

from pef import PAE_ENTRY, canonical, content, disclosure, envelope, key, root, trust, uuid
from run import ISS, Bundle, Keys, Lines, Run, stamp
from runs import etl, instance, language_model, robot
from tools import small, tiny
from vector import VECTORS

ZERO = "0" * 64
OTHER_TYPE = {dict: [], list: {}, str: 1, int: "1", bool: "true"}
#: Longer than a text may be, and of a character that no pattern has.
LONG = "~" * 520
#: Where anything goes.
FREE = "ext"
#: Where a copy of a segment is may be said at length.
LONG_COPY = re.compile(r"\.copy\.(bucket|endpoint|key|version) is longer than anything")
#: What looks refused and is not: members that even the least document may lack, and texts with a higher limit or none.
ALLOWED = ("response.client.status is absent", "payload is longer than anything", "note is longer than anything")


def places(value, before=()):
    rows = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, below in rows:
        yield (*before, name), below
        if name != FREE:
            yield from places(below, (*before, name))


def changed(document, path, change):
    top = json.loads(json.dumps(document))
    at = top
    for name in path:
        at = at[name]
    change(at)
    return top


def shown(path):
    return ".".join(map(str, path)) or "the document"


def refused(document, whole):
    """Refused forms of an accepted document; `whole`: it has nothing optional."""
    objects = [((), document), *places(document)]
    for path, value in objects:
        if isinstance(value, dict) and FREE not in path:
            yield f"unknown member in {shown(path)}", changed(document, path, lambda at: at.update(surprise=1))
            for name in value if whole else ():
                yield f"{shown((*path, name))} is absent", changed(document, path, lambda at, n=name: at.pop(n))
    for path, value in places(document):
        other = OTHER_TYPE[type(value)]
        yield (
            f"{shown(path)} is of another type",
            changed(document, path[:-1], lambda at, n=path[-1], v=other: at.__setitem__(n, v)),
        )
        if type(value) is str:
            yield (
                f"{shown(path)} is longer than anything",
                changed(document, path[:-1], lambda at, n=path[-1]: at.__setitem__(n, LONG)),
            )


def rows(accepted, whole):
    for about, document in accepted.items():
        yield {"about": about, "document": document, "valid": True}
    seen = set()
    for about, document in [*accepted.items(), *whole.items()]:
        for change, made in refused(document, about in whole):
            free = change in ALLOWED or ".ext" in change or LONG_COPY.search(change)
            if change not in seen and not free:
                seen.add(change)
                yield {"about": f"{about}: {change}", "document": made, "valid": False}


def entries(*runs):
    return [json.loads(line) for run in runs for line in Lines(run).lines]


def rotated():
    run = Run("schema rotation")
    run.rotate("receipt", key("receipt", 2))
    return run.seal()


def events():
    found = {}
    for entry in entries(robot("schemas"), instance("schemas"), etl("schemas"), rotated()):
        if entry["kind"] != "call":
            found.setdefault(entry["kind"], entry)
    return found


CALLS = [entry for entry in entries(language_model("schemas"), etl("schemas"), small()) if entry["kind"] == "call"]
RECEIPT = small().keys.receipt
CHECKPOINT = {
    "note": "text of the note\n",
    "origin": ISS,
    "root": "root:" + root(Lines(tiny()).hashes()).hex(),
    "size": 2,
    "v": "pef-checkpoint/v0",
}
CERTIFICATE = {
    "compared": 3,
    "divergences": [{"class": "status", "seq": 2}],
    "mode": "strict",
    "network": "denied",
    "root": "root:" + ZERO,
    "run": tiny().id,
    "status": "failed",
    "steps": 3,
    "ts": stamp(0),
    "v": "pef/v0",
    "verifier": {"name": "estoppel", "version": "0.1.0"},
}
FULL_CERTIFICATE = CERTIFICATE | {
    "code": "REPLAY_DIVERGED",
    "divergences": [{"class": "status", "detail": "204 where 200 was recorded", "seq": 2}],
    "first_divergence": 2,
    "verifier": CERTIFICATE["verifier"] | {"digest": content(b"verifier")},
}
DISCLOSURE = json.loads(disclosure(bytes(32), "run", uuid("run")))
TRUST = json.loads(trust(*Keys().rows()))
DOCUMENTS = {
    "receipt": ({f"call {at}": call for at, call in enumerate(CALLS)}, {"least call": CALLS[-1]}),
    "journal_event": (events(), {}),
    "manifest": (
        {"language model": Bundle(language_model("schemas")).manifest, "least": Bundle(tiny()).manifest},
        {"least": Bundle(tiny()).manifest},
    ),
    "checkpoint": ({"least": CHECKPOINT, "with a time": CHECKPOINT | {"ts": stamp(0)}}, {"least": CHECKPOINT}),
    "signature": (
        {"least": (signed := envelope(PAE_ENTRY, Lines(small()).lines[1], RECEIPT))},
        {"least": signed},
    ),
    "trust": (
        {"least": TRUST, "revoked": {**TRUST, "keys": [RECEIPT.row(iss=ISS, revoked_from_index=1)]}},
        {"least": TRUST},
    ),
    "disclosure": (
        {"run": DISCLOSURE, "call": DISCLOSURE | {"call": uuid("call"), "scope": "call"}},
        {"run": DISCLOSURE},
    ),
    "replay_certificate": ({"least": CERTIFICATE, "full": FULL_CERTIFICATE}, {"least": CERTIFICATE}),
}

VECTORS.setdefault("schemas", {}).update({
    f"{name}.ndjson": b"".join(canonical(row) + b"\n" for row in rows(accepted, whole))
    for name, (accepted, whole) in DOCUMENTS.items()
})
