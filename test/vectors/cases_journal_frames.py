"""Class journal: headers, frames and indexes (J1 to J3)."""

from journal import Journal, frame, short
from journals import FIRST, NEXT, NO, RUN, SECOND, bad, two
from run import Lines


def renamed(journal, old, new, change=lambda data: data, **files):
    """The journal's files with one segment under another name, or with other bytes."""
    made = journal.files(**files)
    made[f"journal/segments/{new}"] = change(made.pop(f"journal/segments/{old}"))
    return made


# --- J1: headers ---


def headed(name, about, journal):
    bad(f"header-{name}", about, "J1", "SEGMENT_HEADER", None, journal)


headed("magic", "The second segment starts with other bytes.", two(magic=b"PEFSEG1\n"))
headed("crc", "The second header's CRC-32 is wrong.", two(crc=0))
headed("instance", "The second segment is of another instance.", two(iss="gw.example.org/main/2"))
headed("instance-empty", "A header names no instance.", two(length=0))
headed("instance-long", "A header's name is longer than its field.", two(length=203))
headed("fill", "Bytes follow the instance name in the header.", two(fill=b"\0x"))
headed("name", "A segment's name is not its first index.", renamed(two(), SECOND, f"{3:020}.seg"))
headed("name-short", "A segment's name has too few digits.", renamed(two(), SECOND, "2.seg"))
headed(
    "name-other",
    "A file in segments/ is no segment.",
    two().files() | {"journal/segments/notes.txt": b"x" * 300},
)
headed(
    "cut",
    "The second segment ends inside its header.",
    renamed(two(), SECOND, SECOND, lambda data: data[:255]),
)
headed("empty", "The second segment is an empty file.", renamed(two(), SECOND, SECOND, lambda data: b""))

# --- J2: frames ---


def cut(journal, by, name=FIRST):
    journal.pad = 0
    journal.segments[name] = journal.segments[name][:-by]
    return journal


def patched(journal, name, at, data):
    """Other bytes at `at` of a segment."""
    segment = bytearray(journal.segments[name])
    segment[at : at + len(data)] = data
    journal.segments[name] = bytes(segment)
    return journal


bad(
    "torn-frame",
    "The last write was cut off inside its frame.",
    "J2",
    "JOURNAL_TORN",
    1,
    cut(Journal().lines(RUN), 40),
    **NO,
)
bad(
    "torn-byte",
    "The last frame lacks its last byte.",
    "J2",
    "JOURNAL_TORN",
    1,
    cut(Journal().lines(RUN), 1),
    **NO,
)
bad(
    "torn-head",
    "Of the last frame only five bytes were written.",
    "J2",
    "JOURNAL_TORN",
    2,
    Journal().lines(RUN).bytes(frame(1, 2, b"x")[:5]),
    **NO,
)
bad(
    "torn-zeros",
    "The end of the last frame is zero bytes.",
    "J2",
    "JOURNAL_TORN",
    1,
    cut(Journal().lines(RUN), 40).bytes(bytes(40)),
    **NO,
)
bad(
    "torn-crc",
    "The last frame's CRC-32 is wrong.",
    "J2",
    "JOURNAL_TORN",
    1,
    Journal().lines(RUN, 0).bytes(frame(1, 1, b"\x40" + Lines(RUN).sigs[1] + Lines(RUN).lines[1], crc=1)),
    **NO,
)
bad(
    "torn-first",
    "The first frame was cut off, and nothing else is there.",
    "J2",
    "JOURNAL_TORN",
    0,
    cut(Journal().lines(RUN, 0), 10),
    **NO,
)
bad(
    "torn-under-checkpoint",
    "The last write was cut off, though the checkpoint signs it.",
    "J2",
    "JOURNAL_TORN",
    1,
    cut(Journal().lines(RUN), 40),
)
bad(
    "torn-second-segment",
    "The last write of the second segment was cut off.",
    "J2",
    "JOURNAL_TORN",
    3,
    cut(two(), 9, SECOND),
    **NO,
)
bad(
    "frame-crc",
    "A frame in the middle has a wrong CRC-32.",
    "J2",
    "FRAME_INVALID",
    0,
    patched(Journal().lines(RUN), FIRST, 256 + 13, b"\0\0\0\0"),
)
bad(
    "frame-bit",
    "One bit of a line in the middle was flipped.",
    "J2",
    "FRAME_INVALID",
    0,
    patched(Journal().lines(RUN), FIRST, 400, b"\x00"),
)
bad(
    "frame-length-zero",
    "A frame in the middle has length 0.",
    "J2",
    "FRAME_INVALID",
    0,
    patched(Journal().lines(RUN), FIRST, 256, bytes(4)),
)
bad(
    "frame-length-huge",
    "A frame in the middle claims to hold 4 GiB.",
    "J2",
    "FRAME_INVALID",
    0,
    patched(Journal().lines(RUN), FIRST, 256, b"\xff\xff\xff\xff"),
)
bad(
    "frame-unknown-type",
    "A frame is of a type that no one knows.",
    "J2",
    "FRAME_INVALID",
    1,
    Journal().lines(RUN, 0).frame(5, b"x").lines(RUN, 1),
)
bad(
    "frame-type-zero",
    "A frame is of type 0.",
    "J2",
    "FRAME_INVALID",
    1,
    Journal().lines(RUN, 0).frame(0, b"x").lines(RUN, 1),
)
bad(
    "frame-torn-inside",
    "A segment that is not the last was cut off inside a frame.",
    "J2",
    "FRAME_INVALID",
    1,
    cut(two(), 40),
)
bad(
    "frame-after-zeros",
    "A valid frame follows zero bytes.",
    "J2",
    "FRAME_INVALID",
    2,
    Journal().lines(RUN).bytes(bytes(20)).lines(NEXT),
    **NO,
)
bad(
    "torn-after-zeros",
    "Bytes that are no frame follow zero bytes.",
    "J2",
    "JOURNAL_TORN",
    2,
    Journal().lines(RUN).bytes(bytes(20) + b"junk"),
    **NO,
)
bad(
    "frame-signature-length",
    "An entry's signature has 63 bytes.",
    "J2",
    "FRAME_INVALID",
    0,
    Journal().frame(1, b"\x3f" + bytes(63) + Lines(RUN).lines[0]).lines(RUN, 1),
)
bad(
    "frame-blob-short",
    "A blob has fewer bytes than a hash.",
    "J2",
    "FRAME_INVALID",
    1,
    Journal().lines(RUN, 0).frame(2, bytes(31)).lines(RUN, 1),
)
bad(
    "frame-end-payload",
    "An end frame holds a byte that is not zero.",
    "J2",
    "FRAME_INVALID",
    2,
    Journal().lines(RUN).end(b"\1").open().lines(NEXT),
)

# --- J3: indexes ---


def misplaced(name, about, index, journal, **files):
    bad(f"index-{name}", about, "J3", "INDEX_MISMATCH", index, journal, **files)


def entry_at(index):
    return Journal().lines(RUN, 0).line(Lines(RUN).lines[1], Lines(RUN).sigs[1], index=index)


misplaced("gap", "An index is left out.", 1, entry_at(2))
misplaced("repeated", "An index comes twice.", 1, entry_at(0))
misplaced("huge", "An index has its highest bit set.", 1, entry_at(2**63 + 1))
misplaced(
    "blob", "A blob has the index of the entry before it.", 1, Journal().lines(RUN, 0).blob(b"x", index=0)
)
misplaced(
    "checkpoint",
    "A checkpoint frame has another index than its tree's size.",
    2,
    Journal().lines(RUN).checkpoint(index=1),
)
misplaced(
    "end",
    "An end frame has another index than the next entry.",
    2,
    Journal().lines(RUN).end(index=1).open().lines(NEXT),
)
misplaced(
    "end-missing",
    "A segment that is not the last has no end frame.",
    2,
    Journal().lines(RUN).open().lines(NEXT),
)
misplaced(
    "junk-after-end",
    "Bytes that are no frame follow the end frame.",
    2,
    Journal().lines(RUN).end().bytes(b"junk junk junk"),
)
misplaced(
    "after-end", "An entry follows the end frame of its segment.", 2, Journal().lines(RUN).end().lines(NEXT)
)
third = two().end().open().lines(short("third"))
missing = third.files()
del missing[f"journal/segments/{SECOND}"]
misplaced("segment-missing", "The second of three segments is not there.", 2, missing)
missing = two().files()
del missing[f"journal/segments/{FIRST}"]
misplaced("first-segment-missing", "The first segment is not there.", 0, missing)
misplaced("header-before", "The second header names another last entry.", 2, two(before=bytes(32)))
misplaced(
    "header-before-first",
    "The first header names an entry before it.",
    0,
    (lambda made: (made.segments.clear(), made.open(before=b"\1" * 32).lines(RUN))[1])(Journal()),
)
misplaced(
    "header-first",
    "The second segment's name and header skip an index.",
    2,
    two(first=3, name=f"{3:020}.seg"),
)
