"""Class journal: what is wrong with segments, frames, blobs, checkpoints and the lines in them."""

import struct

from journal import Journal, frame, short
from pef import b64, canonical, content, key, sha, trust
from run import ISS, Keys, Lines, Run
from runs import STREAM, sse
from tools import flip, setting, small
from vector import failed, unusable, vector

ZERO = "0" * 64
RUN, NEXT = short(), short("journal next")


def bad(name, about, step, reason, index, journal, seq=None, *, trust=None, **files):
    files = journal.files(**files) if isinstance(journal, Journal) else journal
    vector(f"journal-{name}", about, failed(step, reason, seq, index), files, trust=trust)


def renamed(journal, old, new, change=lambda data: data, **files):
    """The journal's files with one segment under another name, or with other bytes."""
    made = journal.files(**files)
    made[f"journal/segments/{new}"] = change(made.pop(f"journal/segments/{old}"))
    return made


FIRST, SECOND, THIRD = (f"{index:020}.seg" for index in (0, 2, 4))


def two(**changes):
    """Two segments with a run each; `changes` are of the second header."""
    return Journal().lines(RUN).end().open(**changes).lines(NEXT)


# --- J1: headers ------------------------------------------------------------------------------------------------


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
headed("name-other", "A file in segments/ is no segment.", two().files() | {"journal/segments/notes.txt": b"x" * 300})
headed("cut", "The second segment ends inside its header.", renamed(two(), SECOND, SECOND, lambda data: data[:255]))
headed("empty", "The second segment is an empty file.", renamed(two(), SECOND, SECOND, lambda data: b""))

# --- J2: frames ---------------------------------------------------------------------------------------------------


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


NO = {"checkpoint": False}
SECOND_FRAME = 256 + len(frame(1, 0, b"\x40" + bytes(64) + Lines(RUN).lines[0]))

bad("torn-frame", "The last write was cut off inside its frame.", "J2", "JOURNAL_TORN", 1, cut(Journal().lines(RUN), 40), **NO)
bad("torn-byte", "The last frame lacks its last byte.", "J2", "JOURNAL_TORN", 1, cut(Journal().lines(RUN), 1), **NO)
bad("torn-head", "Of the last frame only five bytes were written.", "J2", "JOURNAL_TORN", 2,
    Journal().lines(RUN).bytes(frame(1, 2, b"x")[:5]), **NO)  # fmt: skip
bad("torn-zeros", "The end of the last frame is zero bytes.", "J2", "JOURNAL_TORN", 1,
    cut(Journal().lines(RUN), 40).bytes(bytes(40)), **NO)  # fmt: skip
bad("torn-crc", "The last frame's CRC-32 is wrong.", "J2", "JOURNAL_TORN", 1, Journal().lines(RUN, 0).bytes(
    frame(1, 1, b"\x40" + Lines(RUN).sigs[1] + Lines(RUN).lines[1], crc=1)), **NO)  # fmt: skip
bad("torn-first", "The first frame was cut off, and nothing else is there.", "J2", "JOURNAL_TORN", 0,
    cut(Journal().lines(RUN, 0), 10), **NO)  # fmt: skip
bad("torn-under-checkpoint", "The last write was cut off, though the checkpoint signs it.", "J2", "JOURNAL_TORN", 1,
    cut(Journal().lines(RUN), 40))  # fmt: skip
bad("torn-second-segment", "The last write of the second segment was cut off.", "J2", "JOURNAL_TORN", 3, cut(two(), 9, SECOND), **NO)
bad("frame-crc", "A frame in the middle has a wrong CRC-32.", "J2", "FRAME_INVALID", 0,
    patched(Journal().lines(RUN), FIRST, 256 + 13, b"\0\0\0\0"))  # fmt: skip
bad("frame-bit", "One bit of a line in the middle was flipped.", "J2", "FRAME_INVALID", 0,
    patched(Journal().lines(RUN), FIRST, 400, b"\x00"))  # fmt: skip
bad("frame-length-zero", "A frame in the middle has length 0.", "J2", "FRAME_INVALID", 0,
    patched(Journal().lines(RUN), FIRST, 256, bytes(4)))  # fmt: skip
bad("frame-length-huge", "A frame in the middle claims to hold 4 GiB.", "J2", "FRAME_INVALID", 0,
    patched(Journal().lines(RUN), FIRST, 256, b"\xff\xff\xff\xff"))  # fmt: skip
bad("frame-unknown-type", "A frame is of a type that no one knows.", "J2", "FRAME_INVALID", 1,
    Journal().lines(RUN, 0).frame(5, b"x").lines(RUN, 1))  # fmt: skip
bad("frame-type-zero", "A frame is of type 0.", "J2", "FRAME_INVALID", 1, Journal().lines(RUN, 0).frame(0, b"x").lines(RUN, 1))
bad("frame-torn-inside", "A segment that is not the last was cut off inside a frame.", "J2", "FRAME_INVALID", 1,
    cut(two(), 40))  # fmt: skip
bad("frame-signature-length", "An entry's signature has 63 bytes.", "J2", "FRAME_INVALID", 0,
    Journal().frame(1, b"\x3f" + bytes(63) + Lines(RUN).lines[0]).lines(RUN, 1))  # fmt: skip
bad("frame-blob-short", "A blob has fewer bytes than a hash.", "J2", "FRAME_INVALID", 1,
    Journal().lines(RUN, 0).frame(2, bytes(31)).lines(RUN, 1))  # fmt: skip
bad("frame-end-payload", "An end frame holds a byte that is not zero.", "J2", "FRAME_INVALID", 2,
    Journal().lines(RUN).end(b"\1").open().lines(NEXT))  # fmt: skip

# --- J3: indexes ---------------------------------------------------------------------------------------------------


def misplaced(name, about, index, journal, **files):
    bad(f"index-{name}", about, "J3", "INDEX_MISMATCH", index, journal, **files)


def entry_at(index):
    return Journal().lines(RUN, 0).line(Lines(RUN).lines[1], Lines(RUN).sigs[1], index=index)


misplaced("gap", "An index is left out.", 1, entry_at(2))
misplaced("repeated", "An index comes twice.", 1, entry_at(0))
misplaced("huge", "An index has its highest bit set.", 1, entry_at(2**63 + 1))
misplaced("blob", "A blob has the index of the entry before it.", 1, Journal().lines(RUN, 0).blob(b"x", index=0))
misplaced("checkpoint", "A checkpoint frame has another index than its tree's size.", 2, Journal().lines(RUN).checkpoint(index=1))
misplaced("end", "An end frame has another index than the next entry.", 2, Journal().lines(RUN).end(index=1).open().lines(NEXT))
misplaced("end-missing", "A segment that is not the last has no end frame.", 2, Journal().lines(RUN).open().lines(NEXT))
misplaced("after-end", "An entry follows the end frame of its segment.", 2, Journal().lines(RUN).end().lines(NEXT))
third = two().end().open().lines(short("third"))
missing = third.files()
del missing[f"journal/segments/{SECOND}"]
misplaced("segment-missing", "The second of three segments is not there.", 2, missing)
missing = two().files()
del missing[f"journal/segments/{FIRST}"]
misplaced("first-segment-missing", "The first segment is not there.", 0, missing)
misplaced("header-before", "The second header names another last entry.", 2, two(before=bytes(32)))
misplaced("header-before-first", "The first header names an entry before it.", 0,
          (lambda made: (made.segments.clear(), made.open(before=b"\1" * 32).lines(RUN))[1])(Journal()))  # fmt: skip
misplaced("header-first", "The second segment's name and header skip an index.", 2, two(first=3, name=f"{3:020}.seg"))

# --- J4: lines ------------------------------------------------------------------------------------------------------


def lined(name, about, step, reason, seq, *, run=None, stated=None, rows=None, **changes):
    """A run whose lines were made with `changes`, alone in its journal: log index and seq are the same."""
    run = run or RUN
    bad(f"line-{name}", about, step, reason, seq, Journal().lines(run, lines=Lines(run, **changes)),
        seq if stated is None else stated, rows=rows, checkpoint=False)  # fmt: skip


lined("signature-bit", "One bit of a signature was flipped.", "L10", "SIGNATURE_INVALID", 1, sig={1: flip})
lined("prev", "The producer signed a wrong prev.", "L7", "CHAIN_BROKEN", 1, edit={1: setting(prev="leaf:" + ZERO)})
lined("seq", "The producer signed a wrong seq.", "L5", "SEQ_MISMATCH", 1, stated=5, edit={1: setting(seq=5)})
lined("iss", "A line is of another instance.", "L6", "RUN_MISMATCH", 0, edit={0: setting(iss="gw.example.org/main/2")})
lined("mono", "The clock of a run goes backwards.", "L9", "TIME_REVERSED", 2, run=small(), edit={2: setting(mono_us=1)})
lined("schema", "A line has an unknown member.", "L4", "LINE_SCHEMA", 1, edit={1: setting(surprise=1)})
lined("space", "A line is not canonical.", "L3", "LINE_NOT_CANONICAL", 1, raw={1: lambda line: line + b" "})
lined("line-feed", "A line has its LF.", "L3", "LINE_NOT_CANONICAL", 1, raw={1: lambda line: line + b"\n"})
lined("seal-root", "The seal's root is not that of the run.", "J7", "SEAL_MISMATCH", 1, edit={1: setting(root="root:" + ZERO)})
lined("seal-count", "The seal counts itself.", "J7", "SEAL_MISMATCH", 1, edit={1: setting(count=2)})
lined("after-seal", "An entry follows the seal of its run.", "L12", "SEAL_NOT_LAST", 2, run=short().seal())
lined("kid-not-listed", "The receipt key is not in trust.json.", "L8", "KEY_MISMATCH", 0,
      rows=[key("receipt", 9).row(iss=ISS), key("checkpoint").row(iss=ISS)])  # fmt: skip
lined("kid-of-other-use", "trust.json lists the receipt key as a manifest key.", "L8", "KEY_MISMATCH", 0,
      rows=[key("receipt").row(iss=ISS) | {"use": "manifest"}, key("checkpoint").row(iss=ISS)])  # fmt: skip
lined("kid-of-other-instance", "trust.json lists the receipt key for another instance.", "L8", "KEY_MISMATCH", 0,
      rows=[key("receipt").row(iss="gw.example.org/main/2"), key("checkpoint").row(iss=ISS)])  # fmt: skip
bad("line-trust", "The reader's trust document has other keys than the journal.", "L8", "KEY_MISMATCH", 0,
    Journal().lines(RUN), 0, trust=trust(*Keys(5).rows()))  # fmt: skip
turned = Run("journal rotation")
turned.rotate("receipt", key("receipt", 2), possession=bytes(64))
lined("rotation", "A rotation without a proof of possession.", "L11", "ROTATION_INVALID", 1, run=turned,
      rows=[*Keys().rows(), key("receipt", 2).row(iss=ISS)])  # fmt: skip
bad("line-empty", "An entry has no line.", "L1", "LINE_LENGTH", 2, Journal().lines(RUN).frame(1, b"\0"), **NO)
bad("line-malformed", "A line has a member twice.", "L2", "LINE_MALFORMED", 1,
    Journal().lines(RUN, lines=Lines(RUN, raw={1: lambda line: line.replace(b'"v":', b'"v":"pef/v0","v":')})), **NO)  # fmt: skip
bad("line-not-first", "The first entry of a run is its seal.", "L5", "SEQ_MISMATCH", 2, Journal().lines(RUN).lines(NEXT, 1), 1, **NO)
bad("line-repeated", "A line stands twice.", "L5", "SEQ_MISMATCH", 1, Journal().lines(RUN, 0, 0), 0, **NO)
bad("line-unsigned", "A line has no signature, though its run says that each has one.", "L10", "SIGNATURE_MISSING", 1,
    Journal().lines(RUN, 0).line(Lines(RUN).lines[1], b""), 1, **NO)  # fmt: skip
bad("line-of-other-run", "Runs interleave, and one line's prev is the entry before it in the log.", "L7", "CHAIN_BROKEN", 3,
    Journal().lines(RUN, 0).lines(NEXT, 0).lines(RUN, 1).lines(NEXT, 1, lines=Lines(
        NEXT, edit={1: lambda entry: entry.update(prev="leaf:" + sha(b"\0" + Lines(RUN).lines[1]).hex())})), 1, **NO)  # fmt: skip

# --- J5: blobs -------------------------------------------------------------------------------------------------------

BLOBBED = Run("journal blob")
BLOBBED.call(1, sse=sse(BLOBBED, BLOBBED.call_id(1), STREAM, events=3))
NODES = next(iter(BLOBBED.streams.values()))


def blobbed(name, about, index, journal, seq=None):
    bad(f"blob-{name}", about, "J5", "BLOB_MISMATCH", index, journal, seq, checkpoint=False)


blobbed("digest", "A blob's hash is not that of its bytes.", 1, Journal().lines(BLOBBED, 0).blob(flip(NODES), sha(NODES)).lines(BLOBBED, 1))
blobbed("other", "The next entry names another blob.", 1, Journal().lines(BLOBBED, 0).blob(flip(NODES)).lines(BLOBBED, 1), 1)
blobbed("unnamed", "The next entry names no blob.", 1, Journal().lines(RUN, 0).blob(b"x").lines(RUN, 1), 1)
blobbed("last", "No entry follows a blob.", 2, Journal().lines(RUN).blob(b"x"))

# --- J6 to J9: checkpoints ----------------------------------------------------------------------------------------------


def frame_note(name, about, step, reason, seal=True, **changes):
    journal = Journal().lines(RUN).checkpoint(**changes).lines(NEXT)
    bad(f"checkpoint-frame-{name}", about, step, reason, 2, journal, checkpoint=False)


frame_note("origin", "A checkpoint frame is of another log.", "T1", "CHECKPOINT_MALFORMED", origin="gw.example.org/main/2")
frame_note("root", "A checkpoint frame has another root.", "T2", "CHECKPOINT_MISMATCH", tree_root=bytes(32))
frame_note("size", "A checkpoint frame has another size.", "T2", "CHECKPOINT_MISMATCH", size=1)
frame_note("signature", "A checkpoint frame's signature is not the key's.", "T3", "CHECKPOINT_SIGNATURE", signature=bytes(64))
frame_note("key", "A checkpoint frame is signed by a key that trust.json does not list.", "T3", "CHECKPOINT_SIGNATURE",
           signer=key("checkpoint", 9))  # fmt: skip

for case, about, step, reason, changes in (
    ("malformed", "The file checkpoint has a size with a leading zero.", "T1", "CHECKPOINT_MALFORMED",
     {"text": f"{ISS}\n02\n{b64(sha(b''))}\n".encode()}),
    ("origin", "The file checkpoint is of another log.", "T1", "CHECKPOINT_MALFORMED", {"origin": "gw.example.org/main/2"}),
    ("signature", "The file checkpoint is not signed by the key.", "T3", "CHECKPOINT_SIGNATURE", {"signature": bytes(64)}),
    ("fork", "The file checkpoint signs another tree of that size.", "J9", "CHECKPOINT_MISMATCH", {"tree_root": bytes(32)}),
    ("fork-older", "The file checkpoint signs another tree of a smaller size.", "J9", "CHECKPOINT_MISMATCH",
     {"size": 1, "tree_root": bytes(32)}),
):  # fmt: skip
    made = Journal().lines(RUN)
    bad(f"checkpoint-{case}", about, step, reason, 2, made, checkpoint=made.note(**changes))
longer = Journal().lines(RUN).lines(NEXT)
bad("truncated-entries", "The last two entries were cut off, which the checkpoint signs.", "J8", "JOURNAL_TRUNCATED", 2,
    Journal().lines(RUN), checkpoint=longer.note())  # fmt: skip
only_first = two().files()
del only_first[f"journal/segments/{SECOND}"]
bad("truncated-segment", "The last segment is not there, whose entries the checkpoint signs.", "J8", "JOURNAL_TRUNCATED", 2, only_first)
bad("truncated-all", "All entries were cut off, which the checkpoint signs.", "J8", "JOURNAL_TRUNCATED", 0,
    Journal(), checkpoint=longer.note())  # fmt: skip
