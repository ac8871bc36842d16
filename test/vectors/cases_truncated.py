"""Classes truncated and reordered: something is cut off, left out, or stands elsewhere.

Whoever cuts has no keys: nothing is signed again, and the first step that notices decides."""

from pef import sums, zip_bytes, zip_entries
from run import Bundle, Lines, Run
from tools import brief, plain, without
from vector import failed, vector


def lines(change):
    """A hook on receipts.ndjson as a list of lines, each with its LF."""

    def hook(files):
        files["receipts.ndjson"] = b"".join(change(files["receipts.ndjson"].splitlines(True)))
        files["SHA256SUMS"] = sums(files)

    return hook


def signatures(change):
    """A hook on receipts.sig as a list of signatures."""

    def hook(files):
        data = files["receipts.sig"]
        files["receipts.sig"] = b"".join(change([data[at : at + 64] for at in range(0, len(data), 64)]))
        files["SHA256SUMS"] = sums(files)

    return hook


def both(change):
    def hook(files):
        lines(change)(files)
        signatures(change)(files)

    return hook


def cut(name, about, step, reason, seq, after, *, run=None, group="truncated", **more):
    vector(f"{group}-{name}", about, failed(step, reason, seq), Bundle(run or plain(), after=after, **more))


def whole(change):
    """A hook on receipts.ndjson as it is."""
    return lines(lambda found: [change(b"".join(found))])


UNSIGNED = plain(sign="checkpoint")

cut(
    "seal",
    "The seal and its signature were cut off.",
    "S1",
    "SEAL_MISSING",
    3,
    both(lambda found: found[:-1]),
)
cut(
    "seal-only",
    "The seal was cut off, its signature is still there.",
    "S1",
    "SEAL_MISSING",
    3,
    lines(lambda found: found[:-1]),
)
cut("all-but-first", "Only run.open is left.", "S1", "SEAL_MISSING", 1, both(lambda found: found[:1]))
cut(
    "seal-sign-checkpoint",
    "The seal was cut off where lines have no signatures.",
    "S1",
    "SEAL_MISSING",
    3,
    lines(lambda found: found[:-1]),
    run=UNSIGNED,
)
cut(
    "never-sealed",
    "A bundle was made of a run that was never sealed, and everything else fits.",
    "S1",
    "SEAL_MISSING",
    2,
    lambda files: None,
    run=plain(),
    lines=Lines(plain()),
    **{"ndjson": lambda data: b"".join(data.splitlines(True)[:2]), "sigfile": lambda data: data[:128]},
)
cut(
    "first-line",
    "run.open and its signature were cut off.",
    "L5",
    "SEQ_MISMATCH",
    0,
    both(lambda found: found[1:]),
)
cut(
    "first-lines-sign-checkpoint",
    "The first two lines were cut off where lines have no signatures.",
    "L5",
    "SEQ_MISMATCH",
    0,
    lines(lambda found: found[2:]),
    run=UNSIGNED,
)
cut(
    "mid-line",
    "The last line was cut in its middle.",
    "L1",
    "LINE_LENGTH",
    3,
    whole(lambda data: data[:-200]),
)
cut("at-line-feed", "Only the last LF was cut off.", "L1", "LINE_LENGTH", 3, whole(lambda data: data[:-1]))
cut(
    "mid-line-with-line-feed",
    "The last line was cut in its middle and closed with an LF.",
    "L2",
    "LINE_MALFORMED",
    3,
    whole(lambda data: data[:-200] + b"\n"),
)
cut("no-lines", "receipts.ndjson is empty.", "L1", "LINE_LENGTH", 0, whole(lambda data: b""))
cut(
    "signatures-last",
    "The last signature was cut off.",
    "L10",
    "SIGNATURE_MISSING",
    3,
    signatures(lambda found: found[:-1]),
)
cut(
    "signatures-one-byte",
    "receipts.sig lacks its last byte.",
    "L10",
    "SIGNATURE_MISSING",
    3,
    signatures(lambda found: [b"".join(found)[:-1]]),
)
cut("signatures-empty", "receipts.sig is empty.", "L10", "SIGNATURE_MISSING", 0, signatures(lambda found: []))
cut(
    "signatures-first",
    "The first signature was cut off, so that each stands at the place of another.",
    "L10",
    "SIGNATURE_INVALID",
    0,
    signatures(lambda found: found[1:]),
)
cut(
    "signatures-file",
    "receipts.sig is not there, though every line is signed.",
    "L10",
    "SIGNATURE_MISSING",
    0,
    without("receipts.sig"),
)
cut(
    "signatures-surplus",
    "receipts.sig holds a signature too many.",
    "S2",
    "SIGNATURE_SURPLUS",
    None,
    signatures(lambda found: [*found, found[0]]),
)
cut(
    "signatures-surplus-byte",
    "receipts.sig holds a byte too many.",
    "S2",
    "SIGNATURE_SURPLUS",
    None,
    signatures(lambda found: [*found, b"\0"]),
)
cut(
    "signatures-unexpected",
    "receipts.sig is there, though lines are not signed; the manifest lists it.",
    "S2",
    "SIGNATURE_SURPLUS",
    None,
    lambda files: None,
    run=UNSIGNED,
    sigfile=lambda _: bytes(64 * 4),
)

for path in ("manifest.json", "manifest.dsse.json", "receipts.ndjson", "checkpoint", "SHA256SUMS"):
    name = path.lower().replace(".", "-")
    cut(f"no-{name}", f"{path} is not there.", "F1", "FILE_MISSING", None, without(path), run=brief())
vector(
    "truncated-directory-no-checkpoint",
    "A directory without its checkpoint.",
    failed("F1", "FILE_MISSING"),
    Bundle(brief(), after=without("checkpoint")),
    directory=True,
)
cut(
    "no-file-at-all",
    "A well-formed ZIP without entries.",
    "F1",
    "FILE_MISSING",
    None,
    lambda files: files.clear(),
    run=brief(),
)

FILES = ("SHA256SUMS", "checkpoint", "manifest.dsse.json", "manifest.json", "receipts.ndjson")
for case, about, keep in (
    ("half", "in its middle", lambda data: data[: len(data) // 2]),
    ("end-record", "before its end record", lambda data: data[:-22]),
    ("one-byte", "before its last byte", lambda data: data[:-1]),
    ("central-directory", "after its last local entry", lambda data: data[: data.index(b"PK\1\2")]),
    ("in-header", "inside a local header", lambda data: data[: data.index(b"PK\3\4", 4) + 12]),
):
    data = keep(zip_bytes(zip_entries({path: b"{}\n" for path in FILES})))
    vector(
        f"truncated-zip-{case}", f"The ZIP was cut off {about}.", failed("C5", "CONTAINER_MALFORMED"), data
    )
vector(
    "truncated-zip-bundle",
    "The ZIP of a bundle lacks the end of its last file's data and all that follows.",
    failed("C5", "CONTAINER_MALFORMED"),
    Bundle(brief(), zip=lambda data: data[: data.index(b"PK\1\2") - 5]),
)
vector(
    "truncated-zip-empty",
    "The ZIP is an empty file.",
    failed("C5", "CONTAINER_MALFORMED"),
    {"bundle.pef.zip": b""},
)


# --- reordered ---


def moved(name, about, step, reason, seq, after, **more):
    cut(name, about, step, reason, seq, after, group="reordered", **more)


def swapped(found):
    return [found[0], found[2], found[1], *found[3:]]


def deleted(found):
    return [found[0], *found[2:]]


def doubled(found):
    return [*found[:2], *found[1:]]


other = Run("other")
other.add("gap", reason="DISK_FULL")
FORK = Lines(plain(name="another history"))
OTHER = Lines(other.seal())

moved("swap", "Two lines and their signatures changed places.", "L5", "SEQ_MISMATCH", 1, both(swapped))
moved(
    "swap-lines-only",
    "Two lines changed places, their signatures did not.",
    "L5",
    "SEQ_MISMATCH",
    1,
    lines(swapped),
)
moved(
    "seal-first",
    "The seal stands before the last call.",
    "L5",
    "SEQ_MISMATCH",
    2,
    both(lambda found: [*found[:2], found[3], found[2]]),
)
moved("duplicate", "A line and its signature stand twice.", "L5", "SEQ_MISMATCH", 2, both(doubled))
moved(
    "duplicate-seal",
    "The seal stands twice.",
    "L5",
    "SEQ_MISMATCH",
    4,
    both(lambda found: [*found, found[-1]]),
)
moved("deleted", "A line and its signature were taken out.", "L5", "SEQ_MISMATCH", 1, both(deleted))
moved(
    "deleted-sign-checkpoint",
    "A line was taken out where lines have no signatures.",
    "L5",
    "SEQ_MISMATCH",
    1,
    lines(deleted),
    run=UNSIGNED,
)


def renumbered(found):
    """The line after the deleted one gets its number, as someone without keys can do."""
    return [found[0], found[2].replace(b'"seq":2', b'"seq":1'), found[3].replace(b'"seq":3', b'"seq":2')]


moved(
    "deleted-renumbered",
    "A line was taken out and the rest numbered anew.",
    "L7",
    "CHAIN_BROKEN",
    1,
    lines(renumbered),
)
for case, lines_of, step, reason in (
    ("other-run", OTHER, "L6", "RUN_MISMATCH"),
    ("other-history", FORK, "L7", "CHAIN_BROKEN"),
):
    moved(
        case,
        "One line and its signature are those of another run, or of another history of this run.",
        step,
        reason,
        1,
        lambda files, given=lines_of: (
            lines(lambda found: [found[0], given.lines[1] + b"\n", *found[2:]])(files),
            signatures(lambda found: [found[0], given.sigs[1], *found[2:]])(files),
        ),
    )
