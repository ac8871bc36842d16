"""Journals whose oldest segments were deleted: steps G1 to G6, and the file that came with minor v0.7."""

import copy

from cases_journal_valid import valid
from cases_snapshots import Looked
from journal import Journal, short
from journals import bad
from pef import P256, PAE_STATEMENT, canonical, content, envelope, key, leaf, root, sha_hex
from run import ISS, POLICY, Keys, Lines, Run
from tools import flip
from vector import VECTORS

PLAN, BEFORE = content(b"a plan"), content(b"the plan before")
ZERO = "0" * 64


def peaks(hashes):
    """Roots of the full subtrees, from the largest to the smallest."""
    if not hashes:
        return []
    size = 1 << len(hashes).bit_length() - 1
    return ["root:" + root(hashes[:size]).hex(), *peaks(hashes[size:])]


class Carried:
    """A run with entries on both sides, of which `size` stand before."""

    def __init__(self, run, size):
        self.run, self.size, self.lines = run, size, Lines(run)

    def member(self):
        entries = [step for step, _ in self.run.steps[: self.size]]
        calls = [entry for entry in entries if entry["kind"] == "call"]
        counters = {name: 0 for name in ("allow", "block", "hold", "incomplete", "interrupted", "repair")}
        for call in calls:
            counters[call["verdict"]["action"]] += 1
            counters["incomplete"] += not call["outcome"]["complete"]
        hashes = [leaf(line) for line in self.lines.lines[: self.size]]
        opening = entries[0]
        made = {
            "class": opening["class"],
            "counters": {**counters, "calls": len(calls)},
            "head": "leaf:" + hashes[-1].hex(),
            "kid": self.run.keys.receipt.kid,
            "mono_us": entries[-1]["mono_us"],
            "opened": opening["ts"],
            "peaks": peaks(hashes),
            "run": self.run.id,
            "sign": self.run.sign,
            "size": self.size,
        }
        return made | ({"name": opening["name"]} if "name" in opening else {})


class Cut:
    """A journal with three segments: two runs and the start of a third; its end; and the instance's own run, which says that
    `first` segments were to be deleted."""

    def __init__(
        self, first=1, *, acts=(("retention_planned", PLAN),), crossing=None, keys=None, middle=True
    ):
        self.keys = keys or Keys()
        journal = self.journal = Journal(self.keys)
        run = crossing or Run("crossing", keys=self.keys, name="nightly")
        if crossing is None:
            for number in range(1, 5):
                run.call(number, action="block" if number == 2 else "allow")
            run.seal()
        self.crossing = Carried(run, 3 if crossing is None else 2)
        lines = self.crossing.lines
        journal.lines(short("before", keys=self.keys)).lines(
            run, *range(self.crossing.size), lines=lines
        ).checkpoint().end()
        journal.open().lines(run, *range(self.crossing.size, len(lines.lines)), lines=lines)
        if middle:
            journal.checkpoint()
        journal.end()
        own = Run("own", keys=self.keys, klass="instance")
        for act, on in acts:
            own.add("act", act=act, by="operator", on=on)
        journal.open().lines(own).checkpoint()
        self.names = sorted(journal.segments)
        self.firsts = [int(name[:20]) for name in self.names]
        self.cut(first)

    def cut(self, first):
        """The beginning that leaves out so many segments."""
        hashes = self.journal.hashes
        self.size = self.firsts[first]
        bounds = [*self.firsts[: first + 1]]
        files = self.journal.files(checkpoint=False)
        self.deleted = [f"journal/segments/{name}" for name in self.names[:first]]
        segments = []
        for number, path in enumerate(self.deleted):
            segments.append(
                {
                    "bytes": len(files[path]),
                    "copy": {
                        "bucket": "evidence",
                        "endpoint": "https://s3.example.org",
                        "key": "gw-1/sha256/" + sha_hex(files[path]),
                        "retain_until": "2036-11-21T04:00:00.000000Z",
                        "version": "v1",
                    },
                    "entries": bounds[number + 1] - bounds[number],
                    "first": bounds[number],
                    "head": "leaf:" + hashes[bounds[number + 1] - 1].hex(),
                    "plan": PLAN if number == first - 1 else BEFORE,
                    "sha256": content(files[path]),
                }
            )
        self.predicate = {
            "config": content(b"config"),
            "head": "leaf:" + hashes[self.size - 1].hex(),
            "iss": ISS,
            "last_seal": "leaf:" + hashes[1].hex(),
            "peaks": peaks(hashes[: self.size]),
            "plan": PLAN,
            "policy": content(POLICY),
            "runs": [self.crossing.member()] if first == 1 else [],
            "segments": segments,
            "size": self.size,
            "v": "pef-beginning/v0",
        }
        return self

    def statement(self, edit=None, subjects=None):
        predicate = copy.deepcopy(self.predicate)
        if edit:
            edit(predicate)
        subject = [
            {"digest": {"sha256": each["sha256"][7:]}, "name": f"segments/{each['first']:020}.seg"}
            for each in predicate["segments"]
        ]
        if subjects:
            subjects(subject)
        return {
            "_type": "https://in-toto.io/Statement/v1",
            "predicate": predicate,
            "predicateType": "urn:estoppel:pef:beginning:v0",
            "subject": subject,
        }

    def envelope(self, edit=None, subjects=None, *, payload=None, signer=None, **changes):
        payload = canonical(self.statement(edit, subjects)) if payload is None else payload
        return canonical(envelope(PAE_STATEMENT, payload, signer or self.keys.manifest, **changes))

    def files(self, beginning=None, *, left=(), edit_left=None, checkpoint=False, rows=None):
        rows = self.keys.rows() if rows is None else rows
        files = self.journal.files(checkpoint=checkpoint, rows=rows)
        for number, path in enumerate(self.deleted):
            if number not in left:
                del files[path]
            elif edit_left:
                files[path] = edit_left(files[path])
        files["journal/beginning.json"] = self.envelope() if beginning is None else beginning
        return files


class Files:
    """What `valid` asks of a journal."""

    def __init__(self, files):
        self.made = files

    def files(self, **_):
        return dict(self.made)


def good(name, about, cut, *, against=None, **files):
    valid(f"beginning-{name}", about, Files(cut.files(**files)), against=against)


def broken(name, about, step, reason, index, files, seq=None, *, against=None):
    bad(
        f"beginning-{name}",
        about,
        step,
        reason,
        index,
        files | ({} if against is None else {"against": against}),
        seq,
    )


ONE, TWO = Cut(), Cut(2)
END = len(ONE.journal.hashes)
#: Log index of the entry that names the plan.
ACT = END - 1

good("one", "The oldest segment was deleted; a run has entries in it and after it.", ONE)
good("two", "Two segments were deleted, by two plans.", TWO)
good("checkpoint", "The same with the file checkpoint.", ONE, checkpoint=ONE.journal.note())
good("against", "The reader kept a checkpoint of all entries.", ONE, against=ONE.journal.note())
good(
    "against-first",
    "The reader kept a checkpoint of exactly what was deleted.",
    ONE,
    against=ONE.journal.note(size=ONE.size),
)
good(
    "left",
    "A deletion was cut off: a segment from before is still there, and it was changed since.",
    TWO,
    left=(1,),
    edit_left=lambda data: data[:-70] + b"x" + data[-69:],
)
good(
    "begun-twice",
    "After a crash the log says twice that the deletion was begun.",
    Cut(acts=(("retention_planned", PLAN),) * 2),
)
good("p256", "The beginning is signed with P-256.", Cut(keys=Keys(1, P256)))
good(
    "late-snapshot",
    "What an entry after it names was before it.",
    Cut(crossing=Looked("beginning").comes().seal()),
)
REVOKED = [
    row | ({"revoked_from_index": ACT + 1} if row["use"] == "manifest" else {}) for row in Keys().rows()
]
good(
    "revoked-later",
    "The key of the beginning is revoked from the index after the entry that names the plan.",
    ONE,
    rows=REVOKED,
)

# --- G1 to G5 ---

MALFORMED = "ENVELOPE_MALFORMED"
broken("space", "The envelope is not canonical.", "G1", MALFORMED, None, ONE.files(ONE.envelope() + b"\n"))
broken("empty", "The file is empty.", "G1", MALFORMED, None, ONE.files(b""))
broken(
    "receipt-key",
    "It is signed by the receipt key.",
    "G2",
    "KEY_UNKNOWN",
    None,
    ONE.files(ONE.envelope(signer=Keys().receipt)),
)
broken(
    "stranger",
    "It is signed by a key that nobody knows.",
    "G2",
    "KEY_UNKNOWN",
    None,
    ONE.files(ONE.envelope(signer=key("manifest", 9))),
)
broken(
    "other-instance-key",
    "Its key is that of another instance.",
    "G2",
    "KEY_UNKNOWN",
    None,
    ONE.files(
        rows=[
            *(row for row in Keys().rows() if row["use"] != "manifest"),
            key("manifest").row(iss="gw.example.org/main/2"),
        ]
    ),
)
broken(
    "signature",
    "One bit of its signature was flipped.",
    "G3",
    "ENVELOPE_SIGNATURE",
    None,
    ONE.files(ONE.envelope(signature=flip(key("manifest").sign(b"other")))),
)
broken(
    "payload-space",
    "Its payload is not canonical.",
    "G4",
    MALFORMED,
    None,
    ONE.files(ONE.envelope(payload=canonical(ONE.statement()) + b" ")),
)
broken(
    "payload-text",
    "Its payload is no JSON.",
    "G4",
    MALFORMED,
    None,
    ONE.files(ONE.envelope(payload=b"deleted")),
)


def schema(name, about, edit):
    broken(name, about, "G4", MALFORMED, None, ONE.files(ONE.envelope(edit)))


schema("member", "It has an unknown member.", lambda p: p.update(surprise=1))
schema("version", "It is of another version.", lambda p: p.update(v="pef-beginning/v1"))
schema("no-segments", "It names no segment.", lambda p: p.update(segments=[]))
schema("no-copy", "A segment has no copy.", lambda p: p["segments"][0].pop("copy"))
schema("empty-size", "It says that nothing was before.", lambda p: p.update(size=0))


def differs(name, about, edit=None, subjects=None, cut=ONE):
    broken(name, about, "G5", "STATEMENT_MISMATCH", None, cut.files(cut.envelope(edit, subjects)))


differs("iss", "It is of another instance.", lambda p: p.update(iss="gw.example.org/main/2"))
differs("first", "Its first segment does not start with entry 0.", lambda p: p["segments"][0].update(first=1))
differs(
    "gap",
    "Between two of its segments entries are missing.",
    lambda p: p["segments"][1].update(first=p["segments"][1]["first"] + 1),
    cut=TWO,
)
differs("order", "Its segments are in another order.", lambda p: p["segments"].reverse(), cut=TWO)
differs("size", "Its size is not what its segments add up to.", lambda p: p.update(size=p["size"] + 2))
differs("head", "Its head is not that of its last segment.", lambda p: p.update(head="leaf:" + ZERO))
differs(
    "subject-digest", "A subject has another digest.", subjects=lambda s: s[0].update(digest={"sha256": ZERO})
)
differs("subject-missing", "A subject is missing.", subjects=lambda s: s.pop(), cut=TWO)
differs("subject-surplus", "A subject comes twice.", subjects=lambda s: s.append(s[0]))
differs("peaks", "It has a peak too many.", lambda p: p["peaks"].append(p["peaks"][0]))
differs("run-peaks", "A run has a peak too few.", lambda p: p["runs"][0]["peaks"].pop())
differs("run-twice", "A run comes twice.", lambda p: p["runs"].append(p["runs"][0]))

# --- what follows does not go on from it ---

INDEX = "INDEX_MISMATCH"


def without(files, *numbers):
    return {
        path: data
        for path, data in files.items()
        if path not in [f"journal/segments/{ONE.names[n]}" for n in numbers]
    }


missing = ONE.files()
del missing["journal/beginning.json"]
broken("missing", "Nothing says why the first segment is missing.", "J3", INDEX, 0, missing)
broken(
    "too-few", "A segment is missing that it does not name.", "J3", INDEX, ONE.size, without(ONE.files(), 1)
)
broken(
    "only-left",
    "Only segments from before it are there.",
    "J3",
    INDEX,
    TWO.size,
    without(TWO.files(left=(0, 1)), 2),
)
broken("middle", "A later segment is missing.", "J3", INDEX, ONE.firsts[1], without(ONE.files(), 1))


def other_head(predicate):
    predicate["head"] = predicate["segments"][-1]["head"] = "leaf:" + ZERO


broken(
    "other-head",
    "Its last entry is not the one before the next segment.",
    "J3",
    INDEX,
    ONE.size,
    ONE.files(ONE.envelope(other_head)),
)
broken(
    "older",
    "It is that of the deletion before; two segments are gone.",
    "J3",
    INDEX,
    ONE.size,
    {path: data for path, data in TWO.files().items() if path != "journal/beginning.json"}
    | {"journal/beginning.json": ONE.envelope()},
)
broken(
    "tree",
    "Its peaks are not those of the log.",
    "T2",
    "CHECKPOINT_MISMATCH",
    ONE.firsts[2],
    ONE.files(ONE.envelope(lambda p: p.update(peaks=["root:" + ZERO] * len(p["peaks"])))),
)


def carried(name, about, step, reason, index, seq, edit):
    broken(f"run-{name}", about, step, reason, index, ONE.files(ONE.envelope(lambda p: edit(p["runs"]))), seq)


SEQ, SEALED = ONE.crossing.size, ONE.firsts[2] - 1
carried(
    "unnamed",
    "It does not name the run that goes on.",
    "L5",
    "SEQ_MISMATCH",
    ONE.size,
    SEQ,
    lambda runs: runs.clear(),
)
carried(
    "size",
    "It counts fewer entries of the run.",
    "L5",
    "SEQ_MISMATCH",
    ONE.size,
    SEQ,
    lambda runs: runs[0].update(size=2, peaks=runs[0]["peaks"][:1]),
)
carried(
    "head",
    "The run's last entry before is another.",
    "L7",
    "CHAIN_BROKEN",
    ONE.size,
    SEQ,
    lambda runs: runs[0].update(head="leaf:" + ZERO),
)
carried(
    "key",
    "Another key signed the run before.",
    "L8",
    "KEY_MISMATCH",
    ONE.size,
    SEQ,
    lambda runs: runs[0].update(kid=ZERO),
)
carried(
    "clock",
    "The run's clock was later before.",
    "L9",
    "TIME_REVERSED",
    ONE.size,
    SEQ,
    lambda runs: runs[0].update(mono_us=10**9),
)
carried(
    "sign",
    "It says that the run has no signatures.",
    "S2",
    "SIGNATURE_SURPLUS",
    ONE.size,
    SEQ,
    lambda runs: runs[0].update(sign="checkpoint"),
)
carried(
    "tree",
    "The run's tree before is another.",
    "J7",
    "SEAL_MISMATCH",
    SEALED,
    5,
    lambda runs: runs[0].update(peaks=["root:" + ZERO] * len(runs[0]["peaks"])),
)
carried(
    "counters",
    "The run's calls before are counted wrongly.",
    "J7",
    "SEAL_MISMATCH",
    SEALED,
    5,
    lambda runs: runs[0]["counters"].update(calls=1, block=0),
)

# --- J8 and G6 ---

broken(
    "against-older",
    "The reader kept a checkpoint of entries that were deleted.",
    "J8",
    "JOURNAL_BEGINS_LATER",
    END,
    ONE.files(),
    against=ONE.journal.note(size=2),
)
broken(
    "checkpoint-older",
    "The file checkpoint is of entries that were deleted.",
    "J8",
    "JOURNAL_BEGINS_LATER",
    END,
    ONE.files(checkpoint=ONE.journal.note(size=2)),
)


def unrecorded(name, about, *acts):
    cut = Cut(acts=acts)
    broken(name, about, "G6", "BEGINNING_UNRECORDED", len(cut.journal.hashes), cut.files())


unrecorded("unrecorded", "No entry says that it was begun.")
unrecorded("other-plan", "An entry names another plan.", ("retention_planned", BEFORE))
unrecorded("other-act", "An entry names the plan for something else.", ("retention_completed", PLAN))
SOONER = [row | ({"revoked_from_index": ACT} if row["use"] == "manifest" else {}) for row in Keys().rows()]
broken(
    "revoked",
    "Its key was revoked from the index of the entry that names the plan.",
    "K2",
    "KEY_REVOKED",
    ACT,
    ONE.files(rows=SOONER),
)


def documents():
    """As cases_snapshots.py does: what is published does not change."""
    from cases_schemas import rows

    def shorter(predicate):
        del predicate["peaks"][1:], predicate["runs"][0]["peaks"][1:]
        predicate["segments"][0]["copy"].update(bucket="b", endpoint="https://a", key="k")
        predicate["iss"] = "g/m/1"

    def least(predicate):
        shorter(predicate)
        del predicate["last_seal"], predicate["runs"][0]["name"]

    made = rows({"one": ONE.statement(shorter)}, {"least": ONE.statement(least)})
    two = {"about": "two", "document": TWO.statement(), "valid": True}
    return b"".join(canonical(row) + b"\n" for row in [two, *made])


VECTORS.setdefault("schemas", {})["beginning.ndjson"] = documents()
