"""Journals that pass every step."""

from journal import Journal, short
from pef import P256, key, leaf, stream_nodes, trust, units
from run import ISS, Keys, Lines, Run
from runs import STREAM, sse
from vector import expect, vector


def valid(name, about, journal, *, trust=None, authenticity=None, against=None, more=None, **files):
    made = journal.files(**files) | (more or {})
    verdicts = {
        "integrity": "ok",
        "authenticity": authenticity or ("self_asserted" if trust is None else "trusted"),
        "anchoring": "absent" if against is None else "anchored",
    }
    if against is not None:
        answer, made["against"] = expect(0, completeness="complete", **verdicts), against
    else:
        answer = expect(0, completeness="unchecked", **verdicts)
    # Before v0.1 the file `checkpoint` was taken for more than it can show.
    older = expect(0, completeness="complete", **verdicts) if name in CORRECTED else None
    vector(
        f"valid-journal-{name}",
        about,
        older or answer,
        made,
        trust=trust,
        corrected=answer if older else None,
    )


CORRECTED = {
    "closed", "empty-checkpoint", "full", "older-checkpoint", "p256", "revoked-later", "several",
    "several-trust", "short", "trust", "unsealed",
}  # fmt: skip


valid("short", "One sealed run.", Journal().lines(short()))
valid("no-checkpoint", "A journal without a checkpoint yet.", Journal().lines(short()), checkpoint=False)
valid("unsealed", "Two runs, one of them still open.", Journal().lines(short()).lines(Run("still open")))
valid("closed", "The last segment is closed by an end frame.", Journal().lines(short()).end())
full = Journal().lines(short())
full.pad = 0
valid("full", "No zero bytes follow the last frame.", full)
older = Journal().lines(short())
older_note = older.note()
valid(
    "older-checkpoint",
    "The file checkpoint is older than the last entries.",
    older.lines(short("later")),
    checkpoint=older_note,
)
valid("p256", "P-256 receipt keys.", Journal(Keys(1, P256)).lines(short(keys=Keys(1, P256))))
valid(
    "trust",
    "The reader gives the keys; the journal's own list is not used.",
    Journal().lines(short()),
    trust=trust(*Keys().rows()),
    rows=Keys(5).rows(),
)


revoked = [row | ({"revoked_from_index": 2} if row["use"] == "receipt" else {}) for row in Keys().rows()]
valid(
    "revoked-later",
    "The receipt key is revoked from the index after the last entry.",
    Journal().lines(short()),
    rows=revoked,
)
valid("empty", "A segment without frames.", Journal(), checkpoint=False)
valid("empty-checkpoint", "A segment without frames, and a checkpoint of the empty tree.", Journal())
uncovered = Journal().lines(short()).checkpoint().lines(short("unsigned", sign="checkpoint"))
valid(
    "uncovered",
    "Lines without signatures that no checkpoint covers: nobody signed them.",
    uncovered,
    checkpoint=False,
    authenticity="unchecked",
)


def several():
    """Four runs that interleave over three segments, with blobs, checkpoints and a rotated key."""
    streamed, plain, turned = Run("streamed"), Run("plain", sign="checkpoint"), Run("turned")
    for number in (1, 2):
        call = streamed.call_id(number)
        streamed.call(number, sse=sse(streamed, call, STREAM * number, events=3 * number))
    streamed.seal()
    for number in (1, 2):
        plain.call(number)
    plain.seal()
    turned.rotate("receipt", key("receipt", 2))
    turned.call(1)
    turned.rotate("checkpoint", key("checkpoint", 2))
    turned.seal("timeout")
    nodes = [b"".join(stream_nodes(streamed.capture, streamed.call_id(n), units(STREAM * n))) for n in (1, 2)]
    journal = Journal()
    journal.lines(streamed, 0).lines(plain, 0).blob(nodes[0]).lines(streamed, 1).checkpoint().lines(
        plain, 1
    ).end()
    journal.open().lines(turned, 0, 1).blob(nodes[1]).lines(streamed, 2, 3).lines(plain, 2).lines(
        turned, 2
    ).checkpoint().end()
    last = Lines(streamed).lines[-1]
    follow = Run("follow", previous_seal="leaf:" + leaf(last).hex())
    journal.open().lines(turned, 3)
    journal.keys.checkpoint = key("checkpoint", 2)
    journal.lines(follow).lines(plain, 3).lines(turned, 4).checkpoint().lines(short("after"), 0)
    return journal


ROWS = [*Keys().rows(), key("receipt", 2).row(iss=ISS), key("checkpoint", 2).row(iss=ISS)]
valid(
    "several",
    "Four runs over three segments, with blobs, checkpoints, a rotation and runs that are still open.",
    several(),
    rows=ROWS,
)
valid("several-trust", "The same with the reader's trust document.", several(), rows=ROWS, trust=trust(*ROWS))

# --- a checkpoint that the reader has from elsewhere, and what a crash leaves ---

kept = Journal().lines(short())
kept_note = kept.note()
valid("against", "The reader kept a checkpoint of all entries.", kept, against=kept_note)
valid(
    "against-older",
    "The reader kept a checkpoint that is older than the last entries; there is no file checkpoint.",
    kept.lines(short("later")),
    against=kept_note,
    checkpoint=False,
)
valid(
    "unfinished-segment",
    "A crash left a segment that was being laid out.",
    Journal().lines(short()),
    more={f"journal/segments/{2:020}.seg.tmp": b"PEFSEG0\n"},
)
