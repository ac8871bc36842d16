"""Evidence put together at random: keys that come and go, and frames in any order."""

from journal import Journal, frame, short
from pef import content, key, trust
from run import ISS, Bundle, Lines, Run
from tools import unjudged

USES = ("receipt", "manifest", "checkpoint")
OTHER = "gw.example.org/main/2"


def maybe(rng, chance=0.5):
    return rng.random() < chance


def rotations(rng):
    """A bundle whose keys were rotated, and a trust document that knows some of them."""
    run = unjudged(Run(f"soup {rng.random()}", sign=rng.choice(("each", "checkpoint"))))
    current = dict.fromkeys(USES, 1)
    signed = {use: [key(use)] for use in USES}
    for _ in range(rng.randrange(4)):
        use = rng.choice(USES)
        new = rng.choice([number for number in (1, 2, 3) if number != current[use]])
        run.rotate(use, key(use, new), old=key(use, current[use]))
        current[use] = new
        signed[use].append(key(use, new))
    every = {each.kid: each for use in USES for each in signed[use]}

    def manifest(made):
        made["keys"] = [each.row() for each in every.values()]

    anchor = None
    if maybe(rng):
        anchor = {"before": rng.randrange(4), "after": 1, "note": {"signer": rng.choice(signed["checkpoint"])}}
    rows = {}
    for use in USES:
        for number in (1, 2, 3):
            if maybe(rng, 0.6):
                row = key(use, number).row(iss=OTHER if maybe(rng, 0.1) else ISS)
                row |= {"revoked_from_index": rng.randrange(8)} if maybe(rng, 0.15) else {}
                row |= {"use": rng.choice(USES)} if maybe(rng, 0.05) and use != "receipt" else {}
                rows[row["kid"]] = row
    files = {"bundle.pef.zip": Bundle(run.seal(), anchor=anchor, manifest=manifest).zip()}
    return files | ({"trust.json": trust(*rows.values())} if rows else {})


def frames(rng):
    """A journal of two or three runs, with a few things left out, repeated, cut or made up."""
    runs = [short(f"soup {at}", sign=rng.choice(("each", "checkpoint"))) for at in range(rng.choice((2, 3)))]
    streamed = Run("soup stream")
    streamed.call(1, sse={"events": 0, "level": 0, "nodes": content(b"n" * 32), "root": "root:" + (b"n" * 32).hex(), "units": 1})
    todo = [(run, seq) for run in [*runs, streamed] for seq in range(len(Lines(run).lines))]
    if maybe(rng, 0.3):
        rng.shuffle(todo)
    journal, kept = Journal(), None
    for run, seq in todo:
        odd = rng.random()
        if odd < 0.03:
            continue
        if run is streamed and seq == 1 and odd < 0.9:
            journal.blob(b"n" * 32)
        if odd > 0.97:
            rng.choice((
                lambda: journal.blob(b"other"),
                lambda: journal.bytes(bytes(rng.randrange(1, 40))),
                lambda: journal.bytes(frame(rng.randrange(6), len(journal.hashes), bytes(rng.randrange(1, 80)))),
                lambda: journal.bytes(frame(1, len(journal.hashes), b"x" * 90, crc=rng.randrange(2**32))),
            ))()  # fmt: skip
        lines = Lines(run)
        signature = lines.sigs[seq] if (run.sign == "each") != (odd > 0.98) else b""
        journal.line(lines.lines[seq], signature)
        if maybe(rng, 0.2):
            journal.checkpoint()
        if maybe(rng, 0.15):
            journal.end().open()
        if maybe(rng, 0.2):
            kept = journal.note()
    journal.pad = rng.choice((0, 64))
    if maybe(rng, 0.3):
        journal.pad = 0
        journal.segments[journal.name] = journal.segments[journal.name][: -rng.randrange(1, 200)]
    rows = [key("receipt").row(iss=ISS), key("checkpoint").row(iss=ISS)]
    for row in rows:
        row |= {"revoked_from_index": rng.randrange(9)} if maybe(rng, 0.15) else {}
    checkpoint = rng.choice((False, None, kept or False))
    files = journal.files(rows=rows, checkpoint=checkpoint)
    return files | ({"against": kept} if kept and maybe(rng, 0.4) else {})


SOUPS = {"rotations": rotations, "frames": frames}
