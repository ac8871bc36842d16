"""What is asked of a stream, section 16: vectors `event-…` and `valid-event-…`.

All of them ask about the same two bundles, so these are there once."""

import json

from pef import canonical, content, disclosure, root, sha, stream_nodes, units, uuid
from run import Bundle, Run
from runs import STREAM, sse
from tools import flip
from vector import Link, expect, passed, vector

#: Every way to end a line, and to begin a unit: a byte order mark, LF after CR, a lone blank line, a rest.
MIXED = (
    b"\xef\xbb\xbf\n"
    b"data: 1\r\rdata: 2\r\n\r\ndata: 3\r\n\r\n\ndata: 4\n\n\n\xef\xbb\xbf\ndata: 5\n\n: note\n\ndata: cut"
)
PARTS = units(MIXED)
STREAMED, PLAIN, UNSTORED, EMPTY, SHORT = range(1, 6)
BEGUN = b"".join(PARTS[:8])

run = Run("events")
for number, stream, stored in ((STREAMED, MIXED, True), (PLAIN, None, False), (UNSTORED, STREAM, False), (EMPTY, b"", True)):
    call = run.call_id(number)
    run.call(number, **({} if stream is None else {"sse": sse(run, call, stream, events=0, stored=stored)}))
run.call(SHORT, complete=False, sse=sse(run, run.call_id(SHORT), BEGUN, events=0))
BUNDLE = Bundle(run.seal())
HOME = "valid-event-whole"

OTHER = Run("other events")


def of(number, scope="events", by=run, of_run=None):
    call = by.call_id(number)
    key = {
        "events": by.capture.events_key(call),
        "call": by.capture.call_key(call),
        "run": by.capture.key,
    }[scope]
    return disclosure(key, scope, (of_run or by).id, None if scope == "run" else call)


def ask(name, about, expected, events, *, number=STREAMED, call=None, place=None, key=None, bundle=None, **more):
    asked = {"call": call or run.call_id(number)} | ({} if place is None else {"place": place})
    files = {
        "ask.json": canonical(asked),
        "disclosure.json": key or of(number),
        "events": events,
        "bundle.pef.zip": bundle or (BUNDLE.zip() if name == HOME else Link(f"../{HOME}/bundle.pef.zip".encode())),
    }
    vector(name, about, expected, files, **more)


def good(name, about, events, **more):
    ask(f"valid-event-{name}", about, passed() | {"stream": "proven", "unit": None}, events, **more)


def bad(name, about, reason, unit, events, *, number=STREAMED, seq=None, **more):
    """The bundle is good; what is asked of it does not hold."""
    seq = number if seq is None else seq
    answer = passed() | {"exit": 2, "reason": reason, "seq": seq or None, "stream": "failed", "unit": unit}
    ask(f"event-{name}", about, answer, events, number=number, **more)


def unfit(name, about, reason, events, *, number=STREAMED, unit=None, **more):
    """What was given besides the bundle decides nothing."""
    answer = passed() | {"exit": 6, "reason": reason, "seq": number, "stream": "unchecked", "unit": unit}
    ask(f"event-{name}", about, answer, events, number=number, **more)


# --- The whole stream ---

good("whole", "A whole stream with every form of line end, under K_events.", MIXED)
good("whole-by-call", "The same under K_call.", MIXED, key=of(STREAMED, "call"))
good("whole-by-run", "The same under K_run, which has a commitment.", MIXED, key=of(STREAMED, "run"))
good("whole-empty", "A stream of no unit.", b"", number=EMPTY)
good("whole-cut-short", "A stream that was cut between two units.", BEGUN, number=SHORT)
good("whole-without-nodes", "A stream of which only the root is kept.", STREAM, number=UNSTORED)
bad("flipped", "One bit of a whole stream is other.", "EVENT_MISMATCH", 3, flip(MIXED, len(b"".join(PARTS[:3])) + 3))
bad("two-swapped", "Two units changed places.", "EVENT_MISMATCH", 1,
    b"".join([PARTS[0], PARTS[2], PARTS[1], *PARTS[3:]]))  # fmt: skip
bad("one-left-out", "A unit in the middle is left out.", "EVENT_MISMATCH", 6, b"".join(PARTS[:6] + PARTS[7:]))
bad("truncated", "The last units are missing.", "EVENT_MISSING", 5, b"".join(PARTS[:5]))
bad("truncated-inside", "The bytes end inside a unit.", "EVENT_MISMATCH", 7, BEGUN[:-1])
bad("one-too-many", "A unit more than the client got.", "EVENT_SURPLUS", 8, b"".join(PARTS[:9]), number=SHORT)
bad("more-than-cut", "The whole stream, of which the client got less.", "EVENT_SURPLUS", 8, MIXED, number=SHORT)
bad("nothing", "No byte of a stream that has some.", "EVENT_MISSING", 0, b"")
bad("empty-surplus", "A unit of a stream that had none.", "EVENTS_UNKNOWN", None, b"data: 1\n\n", number=EMPTY)
bad("another-stream", "The bytes of another call's stream.", "EVENTS_UNKNOWN", None, STREAM)
bad("line-ends-made-lf", "A client that turned all line ends into LF.", "EVENT_MISMATCH", 1,
    MIXED.replace(b"\r\n", b"\n").replace(b"\r", b"\n"))  # fmt: skip
bad("root-other", "Other bytes than the root, without nodes.", "EVENTS_UNKNOWN", None, flip(STREAM, 3), number=UNSTORED)
bad("root-missing", "A unit is missing, without nodes.", "EVENT_MISSING", None,
    b"".join(units(STREAM)[:-1]), number=UNSTORED)  # fmt: skip
bad("root-surplus", "A unit too many, without nodes.", "EVENT_SURPLUS", None, STREAM + b"\n", number=UNSTORED)

# --- Units at a place ---

for at, part in enumerate(PARTS):
    good(f"unit-{at}", f"Unit {at} alone: {part!r}.", part, place=at)
good("units-after-cr", "Units from one that begins with the LF of a CRLF.", b"".join(PARTS[3:6]), place=3)
good("units-to-the-end", "From a lone blank line to the cut end.", b"".join(PARTS[7:]), place=7)
bad("bit", "One bit of a unit is other.", "EVENTS_UNKNOWN", None, flip(PARTS[2], 3), place=2)
bad("other-place", "A unit at a place that is another's.", "EVENT_MISMATCH", 3, PARTS[2], place=3)
bad("place-behind", "A place behind the end.", "EVENT_SURPLUS", len(PARTS), PARTS[0], place=len(PARTS))
bad("place-huge", "A place beyond any stream.", "EVENT_SURPLUS", len(PARTS), PARTS[0], place=2**53 - 1)
bad("units-over-the-end", "More units than are left.", "EVENT_SURPLUS", len(PARTS), b"data: 9\n\n" * 2, place=len(PARTS) - 1)
bad("no-unit", "A place and no byte.", "EVENT_MISSING", 2, b"", place=2)
bad("line-feed-of-the-next", "A unit with the LF that belongs to the next.", "EVENT_MISMATCH", 3,
    PARTS[2] + b"\n", place=2)  # fmt: skip

# --- The disclosure, and what it is asked for ---

bad("other-key", "A key that is that of another run.", "EVENTS_UNKNOWN", None, MIXED,
    key=disclosure(OTHER.capture.events_key(run.call_id(STREAMED)), "events", run.id, run.call_id(STREAMED)))  # fmt: skip
bad("other-key-of-unit", "The same, for one unit.", "EVENTS_UNKNOWN", None, PARTS[1], place=1,
    key=disclosure(OTHER.capture.call_key(run.call_id(STREAMED)), "call", run.id, run.call_id(STREAMED)))  # fmt: skip
unfit("disclosure-of-other-call", "A disclosure for another call.", "DISCLOSURE_MISMATCH", MIXED, key=of(PLAIN))
unfit("disclosure-of-other-run", "A disclosure for another run.", "DISCLOSURE_MISMATCH", MIXED, key=of(STREAMED, "run", OTHER))
unfit("commitment", "A K_run to which the run did not commit.", "DISCLOSURE_MISMATCH", MIXED,
      key=of(STREAMED, "run", OTHER, of_run=run))  # fmt: skip
invalid = expect(6, "DISCLOSURE_INVALID") | {"stream": "unchecked", "unit": None}
for name, about, key in (
    ("not-json", "A disclosure that is no JSON.", b"key"),
    ("space", "A disclosure that is not canonical.", of(STREAMED) + b"\n"),
    ("no-call", "A K_events of no call.", disclosure(run.capture.key, "events", run.id)),
    ("run-and-call", "A K_run of one call.", disclosure(run.capture.key, "run", run.id, run.call_id(STREAMED))),
    ("scope", "A scope that there is not.", disclosure(run.capture.key, "body", run.id, run.call_id(STREAMED))),
):
    ask(f"event-disclosure-{name}", about, invalid, MIXED, key=key)
ask("event-trust-first", "Trust document and disclosure are both unusable.",
    expect(6, "TRUST_INVALID") | {"stream": "unchecked", "unit": None}, MIXED, key=b"{}", trust=b"{}")  # fmt: skip
unknown = passed() | {"exit": 2, "reason": "CALL_UNKNOWN", "stream": "failed", "unit": None}
ask("event-call-unknown", "A call that is not of this run.", unknown, MIXED, call=uuid("no call"))
bad("no-stream", "A call whose answer was no stream.", "STREAM_ABSENT", None, MIXED, number=PLAIN)
unfit("no-nodes", "A unit of a stream of which only the root is kept.", "STREAM_NODES_ABSENT", units(STREAM)[1],
      number=UNSTORED, place=1)  # fmt: skip


def forged(name, about, reason, exit_code=2, **hooks):
    verdicts = {"integrity": "failed"} if reason != "SEAL_MISSING" else {"completeness": "open"}
    seq = {"STREAM_MISMATCH": STREAMED, "SEAL_MISSING": 2}.get(reason)
    made = hooks.pop("bundle", None) or Bundle(run, **hooks)
    answer = expect(exit_code, reason, seq, **verdicts) | {"stream": "unchecked", "unit": None}
    ask(f"event-{name}", about, answer, MIXED, bundle=made.zip())


def forge_nodes(files):
    path = f"streams/{run.call_id(STREAMED)}.nodes"
    files[path] = b"".join(stream_nodes(run.capture, run.call_id(STREAMED), units(flip(MIXED, 5))))


forged("forged-nodes", "Nodes that were made of other bytes, listed and signed anew.", "STREAM_MISMATCH", listed=forge_nodes)
still_open = Run("events open")
still_open.call(1, sse=sse(still_open, still_open.call_id(1), MIXED, events=0))
forged("run-open", "The run was never sealed.", "SEAL_MISSING", bundle=Bundle(still_open))

# --- Blocks ---

LEVEL, UNIT, UNITS = "valid-stream-level", b":\n\n", 65_537
LONG = uuid("run stream level 1"), uuid("call stream level 1 1")


def block(name, about, count, place, answer):
    ask(
        name,
        about,
        passed() | answer,
        UNIT * count,
        call=LONG[1],
        place=place,
        key=disclosure(sha(b"events"), "events", *LONG),
        bundle=Link(f"../{LEVEL}/bundle.pef.zip".encode()),
    )


PROVEN = {"stream": "proven", "unit": None}
block("valid-event-block", "A block of two units.", 2, 4710, PROVEN)
block("valid-event-block-last", "The last block, of one unit.", 1, UNITS - 1, PROVEN)
block("valid-event-blocks-whole", "A whole stream by its blocks.", UNITS, None, PROVEN)


def parted(name, about, count, place, unit):
    cut = {"exit": 6, "reason": "EVENT_BLOCK", "seq": 1, "stream": "unchecked", "unit": unit}
    block(f"event-block-{name}", about, count, place, cut)


parted("half", "The first unit of a block.", 1, 4710, 4710)
parted("second-half", "The second unit of a block.", 1, 4711, 4710)
parted("and-a-half", "A block and a half.", 3, 4710, 4712)
block("event-blocks-missing", "A whole stream but for its last units.", UNITS - 2, None,
      {"exit": 2, "reason": "EVENT_MISSING", "seq": 1, "stream": "failed", "unit": UNITS - 2})  # fmt: skip
block("event-blocks-surplus", "A whole stream and one unit.", UNITS + 1, None,
      {"exit": 2, "reason": "EVENT_SURPLUS", "seq": 1, "stream": "failed", "unit": UNITS})  # fmt: skip
