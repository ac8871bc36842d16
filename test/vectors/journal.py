"""Journals (SPEC section 12): the lines of several runs, in the order in which the instance wrote them."""

import struct
import zlib

from pef import leaf, note, root, sha, trust
from run import ISS, Keys, Lines, Run

ENTRY, BLOB, CHECKPOINT, END = 1, 2, 3, 4


def frame(kind, index, payload, *, crc=None, length=None):
    head = struct.pack("<IBQ", len(payload) if length is None else length, kind, index)
    return head + struct.pack("<I", zlib.crc32(head + payload) if crc is None else crc) + payload


def header(first, before, iss=ISS, *, magic=b"PEFSEG0\n", length=None, fill=b"", crc=None):
    name = iss.encode()
    length = len(name) if length is None else length
    data = (
        magic
        + struct.pack("<Q", first)
        + before
        + struct.pack("<H", length)
        + (name + fill).ljust(202, b"\0")
    )
    return data + struct.pack("<I", zlib.crc32(data) if crc is None else crc)


class Journal:
    """A journal under construction. Frames go to the segment that is open."""

    def __init__(self, keys=None, iss=ISS):
        self.keys, self.iss = keys or Keys(), iss
        self.hashes, self.segments, self.pad = [], {}, 64
        self.open()

    def open(self, *, first=None, before=None, name=None, **changes):
        """Starts a segment; the arguments replace single fields of its header."""
        first = len(self.hashes) if first is None else first
        before = (self.hashes[-1] if self.hashes else bytes(32)) if before is None else before
        self.name = f"{len(self.hashes):020}.seg" if name is None else name
        self.segments[self.name] = header(first, before, **{"iss": self.iss, **changes})
        return self

    def bytes(self, data):
        self.segments[self.name] += data
        return self

    def frame(self, kind, payload, index=None, **changes):
        return self.bytes(frame(kind, len(self.hashes) if index is None else index, payload, **changes))

    def line(self, line, signature, **changes):
        self.frame(ENTRY, bytes([len(signature)]) + signature + line, **changes)
        self.hashes.append(leaf(line))
        return self

    def lines(self, run, *which, lines=None):
        """Entries of `run`, by their `seq`; all when none is named."""
        lines = lines or Lines(run)
        for seq in which or range(len(lines.lines)):
            self.line(lines.lines[seq], lines.sigs[seq] if run.sign == "each" else b"")
        return self

    def blob(self, data, digest=None, **changes):
        return self.frame(BLOB, (sha(data) if digest is None else digest) + data, **changes)

    def note(self, **changes):
        """The checkpoint of what is written so far."""
        size = changes.pop("size", len(self.hashes))
        made = {"origin": self.iss, "size": size, "tree_root": root(self.hashes[:size]), "name": self.iss}
        return note(**{**made, "signer": self.keys.checkpoint, **changes})

    def checkpoint(self, *, index=None, **changes):
        return self.frame(CHECKPOINT, self.note(**changes), index)

    def end(self, payload=b"\0", **changes):
        return self.frame(END, payload, **changes)

    def files(self, *, checkpoint=None, rows=None):
        """By path; `checkpoint` is the newest note, false for none."""
        files = {f"journal/segments/{name}": data + bytes(self.pad) for name, data in self.segments.items()}
        rows = (
            [each.row(iss=self.iss) for each in (self.keys.receipt, self.keys.checkpoint)]
            if rows is None
            else rows
        )
        files["journal/trust.json"] = trust(*rows)
        if checkpoint is not False:
            files["journal/checkpoint"] = self.note() if checkpoint is None else checkpoint
        return files


def short(label="journal", **members):
    """The shortest run."""
    return Run(label, **members).seal()
