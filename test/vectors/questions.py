"""Questions about the events of one bundle, put together at random."""

from cases_events import BUNDLE, EMPTY, LONG, MIXED, OTHER, PARTS, PLAIN, SHORT, STREAMED, UNSTORED, of, run
from pef import canonical, units
from runs import STREAM

ZIP = BUNDLE.zip()
BODIES = {STREAMED: MIXED, PLAIN: MIXED, UNSTORED: STREAM, EMPTY: b"", SHORT: b"".join(PARTS[:8])}


def edited(rng, data):
    """The bytes, mostly as they are, or with one change."""
    at = rng.randrange(len(data) + 1)
    return rng.choice((
        data, data, data, data,
        data[:at],
        data[at:],
        data[:at] + rng.choice((b"\r", b"\n", b"x", b"\r\n")) + data[at:],
        data.replace(b"\r\n", b"\n"),
        data.replace(b"\n", b"\r\n"),
    ))  # fmt: skip


def about_events(rng):
    number = rng.choice((STREAMED, STREAMED, STREAMED, SHORT, UNSTORED, EMPTY, PLAIN))
    body = BODIES[number]
    asked = {"call": run.call_id(number) if rng.random() > 0.03 else LONG[1]}
    if rng.random() < 0.6:
        parts = units(body)
        first = rng.randrange(len(parts) + 1)
        body = b"".join(parts[first : first + rng.randrange(1, 4)])
        asked["place"] = first if rng.random() < 0.8 else rng.randrange(14)
    key = of(number, rng.choice(("events", "call", "run")))
    if rng.random() < 0.15:
        key = rng.choice((of(PLAIN), of(number, "run", OTHER), of(number, "run", OTHER, of_run=run), key[:-1]))
    return {
        "bundle.pef.zip": ZIP,
        "ask.json": canonical(asked),
        "disclosure.json": key,
        "events": edited(rng, body),
    }
