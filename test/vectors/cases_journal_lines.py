"""Class journal: lines, blobs and checkpoints (J4 to J9)."""

from journal import Journal, short
from journals import NEXT, NO, RUN, SECOND, UNSIGNED, bad, two
from pef import b64, key, sha, trust
from run import ISS, Keys, Lines, Run
from runs import STREAM, sse
from tools import flip, setting, small
from vector import unusable, vector

ZERO = "0" * 64

# --- J4: lines ---


def lined(name, about, step, reason, seq, *, run=None, stated=None, rows=None, **changes):
    """A run whose lines were made with `changes`, alone in its journal: log index and seq are the same."""
    run = run or RUN
    bad(
        f"line-{name}",
        about,
        step,
        reason,
        seq,
        Journal().lines(run, lines=Lines(run, **changes)),
        seq if stated is None else stated,
        rows=rows,
        checkpoint=False,
    )


lined("signature-bit", "One bit of a signature was flipped.", "L10", "SIGNATURE_INVALID", 1, sig={1: flip})
lined(
    "prev",
    "The producer signed a wrong prev.",
    "L7",
    "CHAIN_BROKEN",
    1,
    edit={1: setting(prev="leaf:" + ZERO)},
)
lined("seq", "The producer signed a wrong seq.", "L5", "SEQ_MISMATCH", 1, stated=5, edit={1: setting(seq=5)})
lined(
    "iss",
    "A line is of another instance.",
    "L6",
    "RUN_MISMATCH",
    0,
    edit={0: setting(iss="gw.example.org/main/2")},
)
lined(
    "mono",
    "The clock of a run goes backwards.",
    "L9",
    "TIME_REVERSED",
    2,
    run=small(),
    edit={2: setting(mono_us=1)},
)
lined("schema", "A line has an unknown member.", "L4", "LINE_SCHEMA", 1, edit={1: setting(surprise=1)})
lined("space", "A line is not canonical.", "L3", "LINE_NOT_CANONICAL", 1, raw={1: lambda line: line + b" "})
lined("line-feed", "A line has its LF.", "L3", "LINE_NOT_CANONICAL", 1, raw={1: lambda line: line + b"\n"})
lined(
    "seal-root",
    "The seal's root is not that of the run.",
    "J7",
    "SEAL_MISMATCH",
    1,
    edit={1: setting(root="root:" + ZERO)},
)
lined("seal-count", "The seal counts itself.", "J7", "SEAL_MISMATCH", 1, edit={1: setting(count=2)})
lined("after-seal", "An entry follows the seal of its run.", "L12", "SEAL_NOT_LAST", 2, run=short().seal())
lined(
    "kid-not-listed",
    "The receipt key is not in trust.json.",
    "L8",
    "KEY_MISMATCH",
    0,
    rows=[key("receipt", 9).row(iss=ISS), key("checkpoint").row(iss=ISS)],
)
lined(
    "kid-of-other-use",
    "trust.json lists the receipt key as a manifest key.",
    "L8",
    "KEY_MISMATCH",
    0,
    rows=[key("receipt").row(iss=ISS) | {"use": "manifest"}, key("checkpoint").row(iss=ISS)],
)
lined(
    "kid-of-other-instance",
    "trust.json lists the receipt key for another instance.",
    "L8",
    "KEY_MISMATCH",
    0,
    rows=[key("receipt").row(iss="gw.example.org/main/2"), key("checkpoint").row(iss=ISS)],
)
bad(
    "line-trust",
    "The reader's trust document has other keys than the journal.",
    "L8",
    "KEY_MISMATCH",
    0,
    Journal().lines(RUN),
    0,
    trust=trust(*Keys(5).rows()),
)
turned = Run("journal rotation")
turned.rotate("receipt", key("receipt", 2), possession=bytes(64))
lined(
    "rotation",
    "A rotation without a proof of possession.",
    "L11",
    "ROTATION_INVALID",
    1,
    run=turned,
    rows=[*Keys().rows(), key("receipt", 2).row(iss=ISS)],
)
bad("line-empty", "An entry has no line.", "L1", "LINE_LENGTH", 2, Journal().lines(RUN).frame(1, b"\0"), **NO)
bad(
    "line-malformed",
    "A line has a member twice.",
    "L2",
    "LINE_MALFORMED",
    1,
    Journal().lines(RUN, lines=Lines(RUN, raw={1: lambda line: line.replace(b'"v":', b'"v":"pef/v0","v":')})),
    **NO,
)
bad(
    "line-not-first",
    "The first entry of a run is its seal.",
    "L5",
    "SEQ_MISMATCH",
    2,
    Journal().lines(RUN).lines(NEXT, 1),
    1,
    **NO,
)
bad("line-repeated", "A line stands twice.", "L5", "SEQ_MISMATCH", 1, Journal().lines(RUN, 0, 0), 0, **NO)
bad(
    "line-unsigned",
    "A line has no signature, though its run says that each has one.",
    "L10",
    "SIGNATURE_MISSING",
    1,
    Journal().lines(RUN, 0).line(Lines(RUN).lines[1], b""),
    1,
    **NO,
)
bad(
    "line-of-other-run",
    "Runs interleave, and one line's prev is the entry before it in the log.",
    "L7",
    "CHAIN_BROKEN",
    3,
    Journal()
    .lines(RUN, 0)
    .lines(NEXT, 0)
    .lines(RUN, 1)
    .lines(
        NEXT,
        1,
        lines=Lines(
            NEXT, edit={1: lambda entry: entry.update(prev="leaf:" + sha(b"\0" + Lines(RUN).lines[1]).hex())}
        ),
    ),
    1,
    **NO,
)

bad(
    "line-surplus-signature",
    "A line is signed, though its run says that none is.",
    "S2",
    "SIGNATURE_SURPLUS",
    0,
    Journal().line(Lines(UNSIGNED).lines[0], Lines(UNSIGNED).sigs[0]).lines(UNSIGNED, 1),
    0,
    **NO,
)
bad(
    "line-revoked",
    "The receipt key is revoked from the index of the second line.",
    "K2",
    "KEY_REVOKED",
    1,
    Journal().lines(RUN),
    1,
    rows=[key("receipt").row(iss=ISS, revoked_from_index=1), key("checkpoint").row(iss=ISS)],
    **NO,
)

for case, about, document in (
    ("trust-invalid", "The journal's trust.json is no trust document.", b"{}"),
    ("trust-missing", "The journal has no trust.json, and the reader gives none.", None),
):
    made = Journal().lines(RUN).files()
    if document is None:
        del made["journal/trust.json"]
    else:
        made["journal/trust.json"] = document
    vector(f"journal-{case}", about, unusable(), made)

# --- J5: blobs ---

BLOBBED = Run("journal blob")
BLOBBED.call(1, sse=sse(BLOBBED, BLOBBED.call_id(1), STREAM, events=3))
NODES = next(iter(BLOBBED.streams.values()))


def blobbed(name, about, index, journal, seq=None):
    bad(f"blob-{name}", about, "J5", "BLOB_MISMATCH", index, journal, seq, checkpoint=False)


blobbed(
    "digest",
    "A blob's hash is not that of its bytes.",
    1,
    Journal().lines(BLOBBED, 0).blob(flip(NODES), sha(NODES)).lines(BLOBBED, 1),
)
blobbed(
    "other",
    "The next entry names another blob.",
    1,
    Journal().lines(BLOBBED, 0).blob(flip(NODES)).lines(BLOBBED, 1),
    1,
)
blobbed("unnamed", "The next entry names no blob.", 1, Journal().lines(RUN, 0).blob(b"x").lines(RUN, 1), 1)
blobbed("last", "No entry follows a blob.", 2, Journal().lines(RUN).blob(b"x"))

# --- J6 to J9: checkpoints ---


def frame_note(name, about, step, reason, seal=True, **changes):
    journal = Journal().lines(RUN).checkpoint(**changes).lines(NEXT)
    bad(f"checkpoint-frame-{name}", about, step, reason, 2, journal, checkpoint=False)


frame_note(
    "origin",
    "A checkpoint frame is of another log.",
    "T1",
    "CHECKPOINT_MALFORMED",
    origin="gw.example.org/main/2",
)
frame_note("root", "A checkpoint frame has another root.", "T2", "CHECKPOINT_MISMATCH", tree_root=bytes(32))
frame_note("size", "A checkpoint frame has another size.", "T2", "CHECKPOINT_MISMATCH", size=1)
frame_note(
    "signature",
    "A checkpoint frame's signature is not the key's.",
    "T3",
    "CHECKPOINT_SIGNATURE",
    signature=bytes(64),
)
frame_note(
    "key",
    "A checkpoint frame is signed by a key that trust.json does not list.",
    "T3",
    "CHECKPOINT_SIGNATURE",
    signer=key("checkpoint", 9),
)

for case, about, step, reason, changes in (
    (
        "malformed",
        "The file checkpoint has a size with a leading zero.",
        "T1",
        "CHECKPOINT_MALFORMED",
        {"text": f"{ISS}\n02\n{b64(sha(b''))}\n".encode()},
    ),
    (
        "origin",
        "The file checkpoint is of another log.",
        "T1",
        "CHECKPOINT_MALFORMED",
        {"origin": "gw.example.org/main/2"},
    ),
    (
        "signature",
        "The file checkpoint is not signed by the key.",
        "T3",
        "CHECKPOINT_SIGNATURE",
        {"signature": bytes(64)},
    ),
    (
        "fork",
        "The file checkpoint signs another tree of that size.",
        "J9",
        "CHECKPOINT_MISMATCH",
        {"tree_root": bytes(32)},
    ),
    (
        "fork-older",
        "The file checkpoint signs another tree of a smaller size.",
        "J9",
        "CHECKPOINT_MISMATCH",
        {"size": 1, "tree_root": bytes(32)},
    ),
):
    made = Journal().lines(RUN)
    bad(f"checkpoint-{case}", about, step, reason, 2, made, checkpoint=made.note(**changes))
longer = Journal().lines(RUN).lines(NEXT)
bad(
    "truncated-entries",
    "The last two entries were cut off, which the checkpoint signs.",
    "J8",
    "JOURNAL_TRUNCATED",
    2,
    Journal().lines(RUN),
    checkpoint=longer.note(),
)
only_first = two().files()
del only_first[f"journal/segments/{SECOND}"]
bad(
    "truncated-segment",
    "The last segment is not there, whose entries the checkpoint signs.",
    "J8",
    "JOURNAL_TRUNCATED",
    2,
    only_first,
)
bad(
    "truncated-all",
    "All entries were cut off, which the checkpoint signs.",
    "J8",
    "JOURNAL_TRUNCATED",
    0,
    Journal(),
    checkpoint=longer.note(),
)
