"""Classes duplicate-entry, path-escaping, bomb and container: ZIPs that are not in normal form."""

import struct
import zlib

from pef import ZipEntry, trust, zip_bytes, zip_entries
from run import Bundle, Keys
from tools import file, tiny
from vector import failed, vector


def zipped(name, about, step, reason, **hooks):
    vector(name, about, failed(step, reason), Bundle(tiny(), **hooks))


def hull(name, about, step, reason, change, after=None):
    """A ZIP that is refused before its files are read: they hold next to nothing."""
    paths = (
        "SHA256SUMS",
        "checkpoint",
        "manifest.dsse.json",
        "manifest.json",
        "receipts.ndjson",
        "receipts.sig",
    )
    entries = zip_entries({path: b"{}\n" for path in paths})
    data = zip_bytes(change(entries) or entries)
    vector(name, about, failed(step, reason), after(data) if after else data)


def entry_of(path, **fields):
    """A hook on the entries: the fields of one are changed."""

    def hook(entries):
        for entry in entries:
            if entry.name == path.encode():
                for field, value in fields.items():
                    setattr(entry, field, value)

    return hook


def further(name, data=b"x", **fields):
    """A hook on the entries: one more, in its place."""

    def hook(entries):
        entry = ZipEntry(name, data)
        for field, value in fields.items():
            setattr(entry, field, value)
        return sorted([*entries, entry], key=lambda each: each.name)

    return hook


# --- duplicate-entry ---


def doubled(path, data=None):
    def hook(entries):
        at = next(at for at, entry in enumerate(entries) if entry.name == path.encode())
        again = ZipEntry(path, entries[at].data if data is None else data)
        return [*entries[: at + 1], again, *entries[at + 1 :]]

    return hook


for case, path, data in (
    ("manifest", "manifest.json", None),
    ("lines", "receipts.ndjson", b"{}\n"),
    ("sums", "SHA256SUMS", b""),
):
    hull(
        f"duplicate-entry-{case}",
        f"The ZIP has two entries named {path}{'' if data is None else ', with different data'}.",
        "C4",
        "ENTRY_DUPLICATE",
        doubled(path, data),
    )
hull(
    "duplicate-entry-far",
    "The second entry of a name stands at the end.",
    "C4",
    "ENTRY_DUPLICATE",
    lambda entries: [*entries, ZipEntry("checkpoint", b"other")],
)
zipped(
    "duplicate-entry-hidden",
    "The central directory lists only the second of two entries of a name.",
    "C4",
    "ENTRY_DUPLICATE",
    zip=lambda data: ZipEntry("checkpoint", b"hidden").local_bytes() + data,
)

# --- path-escaping ---

for case, about, name in (
    ("parent", "leads to the parent folder", "../escape"),
    ("parent-inside", "leads out of a folder and further", "policy/../../escape"),
    ("parent-last", "ends in a parent segment", "policy/.."),
    ("dot", "has a . segment", "policy/./x"),
    ("dot-only", "is .", "."),
    ("absolute", "is absolute", "/etc/passwd"),
    ("backslash", "has a backslash", "policy\\x"),
    ("backslash-parent", "leads to the parent folder with backslashes", "..\\escape"),
    ("drive", "names a drive", "c:x"),
    ("empty-segment", "has an empty segment", "policy//x"),
    ("folder", "names a folder", "policy/"),
    ("empty", "is empty", ""),
    ("upper-case", "has an upper-case letter", "policy/X"),
    ("sums-below", "is SHA256SUMS in a folder", "policy/SHA256SUMS"),
    ("space", "has a space", "a b"),
    ("line-feed", "has a line feed", "a\nb"),
    ("nul", "has a zero byte", "a\0b"),
    ("not-ascii", "is not ASCII", "\u00e9"),
    ("not-utf-8", "is not UTF-8", b"\xff\xfe"),
    ("tilde", "starts with a tilde", "~/x"),
    ("201-bytes", "has 201 bytes", "a" * 201),
):
    hull(f"path-escaping-{case}", f"A path {about}.", "C3", "PATH_FORBIDDEN", further(name))
vector(
    "path-escaping-directory-upper-case",
    "A directory with a file whose path has an upper-case letter.",
    failed("C3", "PATH_FORBIDDEN"),
    Bundle(tiny(), after=file("policy/README.json", b"{}")),
    directory=True,
)
vector(
    "path-escaping-directory-space",
    "A directory with a file whose path has a space.",
    failed("C3", "PATH_FORBIDDEN"),
    Bundle(tiny(), after=file("policy/a b", b"{}")),
    directory=True,
)
vector(
    "path-escaping-listed",
    "A forbidden path that the manifest lists, the statement signs and SHA256SUMS names.",
    failed("C3", "PATH_FORBIDDEN"),
    Bundle(tiny(), listed=file("../escape", b"x")),
)

# --- bomb ---

packed = zlib.compressobj(9, zlib.DEFLATED, -15)
BOMB = packed.compress(bytes(4_000_000)) + packed.flush()
hull(
    "bomb-deflate",
    "A deflated entry of 4 MB in 4 kB.",
    "C2",
    "ENTRY_COMPRESSED",
    further("bodies/" + "0" * 64, BOMB, method=8, size=4_000_000, crc=zlib.crc32(bytes(4_000_000))),
)
hull(
    "bomb-deflate-4-gib",
    "A deflated entry that claims to hold 4 GiB.",
    "C2",
    "ENTRY_COMPRESSED",
    further("bodies/" + "0" * 64, BOMB[:64], method=8, size=0xFFFFFFFE),
)
hull(
    "bomb-stored-huge",
    "A stored entry that claims almost 4 GiB of data, which are not there.",
    "C5",
    "CONTAINER_MALFORMED",
    further("bodies/" + "0" * 64, size=0xFFFFFFF0, packed=0xFFFFFFF0),
)
hull(
    "bomb-last-huge",
    "The last entry claims that its data go on for 4 GiB.",
    "C5",
    "CONTAINER_MALFORMED",
    entry_of("receipts.sig", size=0xFFFFFFFF, packed=0xFFFFFFFF),
)
hull(
    "bomb-overlap",
    "An entry's data span all entries after it, each of which the central directory lists.",
    "C5",
    "CONTAINER_MALFORMED",
    entry_of("checkpoint", size=200, packed=200),
)
zipped(
    "bomb-entry-count",
    "The end record counts 65,535 entries.",
    "C5",
    "CONTAINER_MALFORMED",
    zip=lambda data: data[:-14] + b"\xff\xff\xff\xff" + data[-10:],
)
for method in (1, 9, 12, 14, 93, 99):
    hull(
        f"bomb-method-{method}",
        f"An entry is packed with method {method}.",
        "C2",
        "ENTRY_COMPRESSED",
        entry_of("receipts.ndjson", method=method),
    )

# --- container ---


def described(entry):
    """The entry with a data descriptor: zeros in its local header, the truth behind its data."""
    entry.flags = 8
    entry.trailer = b"PK\7\10" + struct.pack("<III", entry.crc, entry.packed, entry.size)
    entry.central = {"crc": entry.crc, "packed": entry.packed, "size": entry.size}
    entry.crc = entry.packed = entry.size = 0
    return entry


def with_number(data, at, by):
    """The bytes with a little-endian 16-bit number changed."""
    number = struct.unpack_from("<H", data, at)[0] + by
    return data[:at] + struct.pack("<H", number) + data[at + 2 :]


def central_with(data, at, by):
    return with_number(data, data.rindex(b"PK\1\2") + at, by)


def end_with(data, at, by):
    return with_number(data, len(data) - 22 + at, by)


def left_out(data):
    """Without the last central header; the end record says so."""
    at = data.rindex(b"PK\1\2")
    size = len(data) - 22 - at
    data = data[:at] + data[-22:]
    for offset, by in ((8, -1), (10, -1), (12, -size)):
        data = end_with(data, offset, by)
    return data


def malformed(name, about, *, entries=None, zip=None):
    hull(f"container-{name}", about, "C5", "CONTAINER_MALFORMED", entries or (lambda found: None), zip)


def dressed(name, about, **hooks):
    """A whole bundle, which a reader of ZIPs that is less strict would take."""
    zipped(f"container-{name}", about, "C5", "CONTAINER_MALFORMED", **hooks)


dressed("prefix", "Junk stands before the first local header.", zip=lambda data: b"MZ" + data)
dressed("suffix", "A byte follows the end record.", zip=lambda data: data + b"\n")
dressed("comment", "The end record has a comment.", zip=lambda data: data[:-2] + b"\2\0hi")
malformed(
    "not-zip",
    "The file is no ZIP at all.",
    zip=lambda data: b"not a ZIP, though it is as long as an end record",
)
malformed(
    "gap",
    "Bytes stand between the entries and the central directory.",
    zip=lambda data: data.replace(b"PK\1\2", b"\0\0PK\1\2", 1),
)
malformed(
    "gap-between",
    "Bytes stand between two entries, where no header points.",
    entries=entry_of("checkpoint", trailer=b"\0\0\0\0"),
)
malformed(
    "extra-local",
    "A local header has an extra field.",
    entries=entry_of("checkpoint", extra=b"\x55\x54\1\0\0"),
)
malformed(
    "extra-central",
    "A central header has an extra field.",
    entries=entry_of("checkpoint", central={"extra": b"\x55\x54\1\0\0"}),
)
malformed("entry-comment", "A central header has a comment.", entries=entry_of("checkpoint", comment=b"hi"))
dressed(
    "data-descriptor",
    "An entry has the flag of a data descriptor, and the descriptor.",
    entries=lambda entries: [described(entry) if entry.name == b"checkpoint" else entry for entry in entries],
)
malformed(
    "data-descriptor-flag",
    "An entry has the flag of a data descriptor and sizes in its header.",
    entries=entry_of("checkpoint", flags=8),
)
malformed("utf-8-flag", "An entry has the flag of UTF-8 names.", entries=entry_of("checkpoint", flags=0x800))
malformed("encrypted-flag", "An entry has the flag of encryption.", entries=entry_of("checkpoint", flags=1))
malformed("version", "An entry needs version 20.", entries=entry_of("checkpoint", version=20))
dressed("time", "An entry has a time.", entries=entry_of("checkpoint", time=1))
malformed("date", "An entry has another date.", entries=entry_of("checkpoint", date=0x5B75))
malformed("sizes-differ", "The two sizes of a stored entry differ.", entries=entry_of("checkpoint", size=1))
dressed("unsorted", "The entries are not in the order of their names.", entries=lambda entries: entries[::-1])
malformed(
    "unsorted-pair",
    "Two entries changed places.",
    entries=lambda entries: [entries[1], entries[0], *entries[2:]],
)
for field, value in (
    ("crc", 1),
    ("size", 1),
    ("name", b"checkpoinT"),
    ("method", 8),
    ("date", 0x22),
    ("flags", 0x800),
    ("external", 0x81FF0000),
):
    malformed(
        f"central-{field}",
        f"The central header of an entry says otherwise: {field}.",
        entries=entry_of("checkpoint", central={field: value}),
    )
malformed(
    "made-by", "A central header was made by another system.", entries=entry_of("checkpoint", made_by=0x0014)
)
malformed("offset", "A central header has another offset.", zip=lambda data: central_with(data, 42, 1))
malformed("end-count", "The end record counts an entry too few.", zip=lambda data: end_with(data, 10, -1))
malformed("end-disk", "The end record is of a second disk.", zip=lambda data: end_with(data, 4, 1))
malformed("end-size", "The end record states another size.", zip=lambda data: end_with(data, 12, 1))
malformed("end-offset", "The end record states another offset.", zip=lambda data: end_with(data, 16, 1))
malformed("central-missing", "The central directory leaves out an entry.", zip=left_out)
malformed(
    "zip64",
    "A zip64 end record and its locator stand before the end record.",
    zip=lambda data: (
        data[:-22] + b"PK\6\6" + struct.pack("<Q", 44) + bytes(44) + b"PK\6\7" + bytes(16) + data[-22:]
    ),
)
zipped(
    "container-crc",
    "Both headers of an entry state the same wrong CRC-32.",
    "Z1",
    "CRC_MISMATCH",
    entries=entry_of("checkpoint", crc=0),
)
vector(
    "container-crc-trusted",
    "The same with a trust document and an anchor: every other verdict is given.",
    failed("Z1", "CRC_MISMATCH", trusted=True, anchored=True),
    Bundle(tiny(), anchor={"before": 1, "after": 1}, entries=entry_of("receipts.ndjson", crc=0)),
    trust=trust(*Keys().rows()),
)
