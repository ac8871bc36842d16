"""Places in which two readings of the specification were possible once, or nobody had looked."""

import struct

from journal import Journal, short
from journals import NO, RUN, bad
from pef import content, key, leaf, note, proof, root, sha, trust
from receipts import receipt
from run import ISS, Bundle, Keys, Lines, Run
from tools import flip, lined, setting, small, tiny, unjudged
from vector import Link, expect, failed, passed, unusable, vector

ROWS = Keys().rows()


def member(value):
    return lambda entry: entry.update(seq=value)


# --- A line whose seq is no number ---

for case, value in (("object", {}), ("array", [0]), ("string", "1"), ("boolean", True)):
    receipt(
        f"forged-receipt-schema-seq-{case}",
        f"The seq of a line is of the wrong type: {case}.",
        failed("L4", "LINE_SCHEMA"),
        edit=member(value),
    )
receipt(
    "forged-receipt-schema-seq-negative",
    "The seq of a line is below zero.",
    failed("L4", "LINE_SCHEMA"),
    edit=member(-1),
)
vector(
    "forged-schema-seq-object",
    "The seq of a line is an object.",
    failed("L4", "LINE_SCHEMA", 1),
    Bundle(**lined(small(), edit={1: member({})})),
)
bad(
    "line-seq-object",
    "The seq of a line is an object.",
    "L4",
    "LINE_SCHEMA",
    1,
    Journal().lines(RUN, lines=Lines(RUN, edit={1: member({})})),
    **NO,
)

# --- C1, C3 ---

ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789-_"
names = (a + b + c + d for a in ALPHABET for b in ALPHABET for c in ALPHABET for d in ALPHABET)
EMPTY = struct.pack("<IHHHHHIIIHH", 0x04034B50, 10, 0, 0, 0, 0x21, 0, 0, 0, 4, 0)
vector(
    "container-limit-entries",
    "The ZIP has 65,535 entries.",
    failed("C1", "CONTAINER_LIMIT"),
    b"".join(EMPTY + name.encode() for name, _ in zip(sorted(names), range(65_535))),
)
linked = Bundle(tiny())
vector(
    "path-escaping-directory-link",
    "A file of a directory is a symbolic link to what the manifest lists.",
    failed("C3", "PATH_FORBIDDEN"),
    {f"bundle/{path}": data for path, data in linked.files.items()}
    | {"bundle.d/checkpoint": linked.files["checkpoint"], "bundle/checkpoint": Link(b"../bundle.d/checkpoint")},
)
vector(
    "container-trust-first",
    "The trust document is unusable, and the ZIP is none.",
    unusable(),
    b"not a ZIP, though it is as long as an end record",
    trust=b"{}",
)
vector(
    "wrong-key-trust-twice",
    "The trust document lists a key twice.",
    unusable(),
    Bundle(tiny()),
    trust=trust(*ROWS, ROWS[0]),
)

# --- Streams with more units than nodes ---

UNITS = 65_537


def long_stream(name, about, expected, level):
    run = Run(f"stream level {level}")
    call = run.call_id(1)
    leaves = [sha(b"\0" + sha(b"events") + b":\n\n")] * UNITS
    block = 2**level
    nodes = b"".join(root(leaves[at : at + block]) for at in range(0, UNITS, block))
    run.streams[call] = nodes
    stated = {"events": 0, "level": level, "nodes": content(nodes), "units": UNITS}
    run.call(1, sse=stated | {"root": "root:" + root(leaves).hex()})
    vector(name, about, expected, Bundle(run.seal()))


long_stream("valid-stream-level", "A stream of 65,537 units: the nodes are those of level 1.", passed(), 1)
long_stream(
    "forged-stream-level-two",
    "A stream of 65,537 units with the nodes of level 2, which lead to the right root.",
    failed("N1", "STREAM_MISMATCH", 1),
    2,
)

# --- K1 and K2: what a key.rotate vouches for ---


def turned(label, sign, *uses):
    run = unjudged(Run(label, sign=sign))
    for use in uses:
        run.rotate(use, key(use, 2))
    return run.seal()


def vouched(name, about, expected, run, rows, **bundle):
    vector(name, about, expected, Bundle(run, **bundle), trust=trust(*rows))


BOTH = ("manifest", "checkpoint")
RECEIPT, MANIFEST, CHECKPOINT = ROWS
vouched(
    "wrong-key-circular",
    "Entries without signatures bring in the two keys that sign for these entries.",
    failed("K1", "KEY_UNTRUSTED"),
    turned("circular", "checkpoint", *BOTH),
    [RECEIPT],
)
vouched(
    "valid-rotation-signed",
    "Entries with signatures bring in the manifest key and the checkpoint key.",
    passed(trusted=True),
    turned("vouched by entries", "each", *BOTH),
    [RECEIPT],
)
for use, row in (("manifest", CHECKPOINT), ("checkpoint", MANIFEST)):
    vouched(
        f"valid-rotation-unsigned-{use}",
        f"Entries without signatures bring in the {use} key; the other of the two is in the trust document.",
        passed(trusted=True),
        turned(f"vouched {use}", "checkpoint", use),
        [RECEIPT, row],
    )
ANCHOR = {"before": 3, "after": 2}
# The anchor is by the old checkpoint key, which the manifest has to list then.
anchored = {
    "anchor": ANCHOR | {"note": {"signer": key("checkpoint")}},
    "manifest": lambda made: made.update(keys=[*made["keys"], key("checkpoint").row()]),
}
vouched(
    "wrong-key-circular-anchor",
    "The same, and the trust document has the key of the anchor: it does not vouch for the other two.",
    failed("K1", "KEY_UNTRUSTED", anchored=True),
    turned("circular anchor", "checkpoint", *BOTH),
    [RECEIPT, CHECKPOINT],
    **anchored,
)
back = unjudged(Run("there and back", keys=Keys(5)))
back.rotate("receipt", key("receipt", 2))
back.rotate("receipt", key("receipt", 5))
back.used.pop()  # Listed once.
vouched(
    "wrong-key-first-receipt-brought-in",
    "The run rotates away from its first receipt key and back to it; the trust document has the one between.",
    failed("K1", "KEY_UNTRUSTED"),
    back.seal(),
    [key("receipt", 2).row(iss=ISS), *Keys(5).rows()[1:]],
)
passing = unjudged(Run("passing through"))
passing.rotate("manifest", key("manifest", 2))
passing.used.append(key("manifest", 2))
passing.rotate("manifest", key("manifest", 3))
vouched(
    "wrong-key-brought-in-revoked",
    "A manifest key that was brought in and replaced again is revoked.",
    failed("K2", "KEY_REVOKED"),
    passing.seal(),
    [*ROWS, key("manifest", 2).row(iss=ISS, revoked_from_index=0)],
)
vouched(
    "valid-revoked-elsewhere",
    "A key that was brought in is revoked for another instance.",
    passed(trusted=True),
    turned("revoked elsewhere", "each", "manifest"),
    [*ROWS, key("manifest", 2).row(iss="gw.example.org/main/2", revoked_from_index=0)],
)

# --- Notes: names and numbers ---

for case, about, name in (
    ("control", "a control character", "gw\x01"),
    ("delete", "a DEL", "gw\x7f"),
    ("byte-order-mark", "a byte order mark", "gw\ufeff"),
    ("next-line", "a NEXT LINE", "gw\u0085"),
    ("not-ascii", "an umlaut", "g\u00fc"),
    ("plus", "a plus sign", "gw+1"),
):
    vector(
        f"forged-checkpoint-name-{case}",
        f"The name in the checkpoint's signature line has {about}.",
        failed("T1", "CHECKPOINT_MALFORMED"),
        Bundle(tiny(), checkpoint=lambda made, name=name: made | {"name": name}),
    )
for case, size, step, reason in (
    ("53-bits", 2**53, "T2", "CHECKPOINT_MISMATCH"),
    ("64-bits", 2**64 - 1, "T2", "CHECKPOINT_MISMATCH"),
    ("65-bits", 2**64, "T1", "CHECKPOINT_MALFORMED"),
):
    vector(
        f"forged-checkpoint-size-{case}",
        f"The checkpoint signs a size of {size}.",
        failed(step, reason),
        Bundle(tiny(), checkpoint=setting(size=size)),
    )


def huge_anchor(index, size):
    """A proof of place `index` in a log of `size` entries, all of whose other subtrees are made up."""

    def make(bundle_anchor):
        node, path, place, last = leaf(Lines(tiny()).lines[-1]), [], index, size - 1
        while last:
            sibling = sha(b"made up %d" % last)
            if place & 1 or place == last:
                path.append(sibling)
                node = sha(b"\1" + sibling + node)
                while not place & 1 and place:
                    place, last = place >> 1, last >> 1
            else:
                path.append(sibling)
                node = sha(b"\1" + node + sibling)
            place, last = place >> 1, last >> 1
        return proof(index=index, path=path, checkpoint=note(ISS, size, node, key("checkpoint"), ISS))

    return make


for case, index, size in (
    ("53-bits", 2**53 + 1, 2**53 + 3),
    ("63-bits", 2**62 + 5, 2**63),
):
    vector(
        f"valid-anchor-{case}",
        f"The seal is entry {index} of a log of {size} entries.",
        passed(anchored=True),
        Bundle(tiny(), anchor=ANCHOR, anchor_bytes=huge_anchor(index, size)),
    )
    vector(
        f"forged-anchor-{case}",
        f"The same, but for the last bit of the index: {index ^ 1}.",
        failed("A2", "ANCHOR_MISMATCH"),
        Bundle(
            tiny(),
            anchor=ANCHOR,
            anchor_bytes=lambda made, index=index, size=size: huge_anchor(index, size)(made).replace(
                b"index %d" % index, b"index %d" % (index ^ 1)
            ),
        ),
    )
vector(
    "forged-anchor-path-64",
    "The anchor's path has 64 hashes.",
    failed("A1", "ANCHOR_MALFORMED"),
    Bundle(
        tiny(),
        anchor=ANCHOR,
        anchor_bytes=lambda made: proof(
            index=2, path=[bytes(32)] * 64, checkpoint=note(ISS, 9, bytes(32), key("checkpoint"), ISS)
        ),
    ),
)
bad(
    "truncated-53-bits",
    "The checkpoint signs a size that a double cannot hold.",
    "J8",
    "JOURNAL_TRUNCATED",
    2,
    Journal().lines(RUN),
    checkpoint=note(ISS, 2**53 + 1, bytes(32), key("checkpoint"), ISS),
)

# --- Journals ---

REVOKED = [key("receipt").row(iss=ISS, revoked_from_index=1), key("checkpoint").row(iss=ISS)]
bad(
    "line-revoked-and-forged",
    "A line is not signed by its key, which is revoked besides: the signature is looked at first.",
    "L10",
    "SIGNATURE_INVALID",
    1,
    Journal().lines(RUN, lines=Lines(RUN, sig={1: flip})),
    1,
    rows=REVOKED,
    **NO,
)
bad(
    "no-segments",
    "Of a journal only trust.json and checkpoint are left.",
    "J1",
    "SEGMENT_HEADER",
    None,
    {path: data for path, data in Journal().lines(RUN).files().items() if "segments" not in path},
)
bad(
    "unfinished-only",
    "All that a journal has is a segment that was being laid out.",
    "J1",
    "SEGMENT_HEADER",
    None,
    {
        path + (".tmp" if "segments" in path else ""): data
        for path, data in Journal().lines(RUN).files(checkpoint=False).items()
    },
)


def against(name, about, step, reason, kept):
    made = Journal().lines(RUN).files() | {"against": kept}
    bad(f"against-{name}", about, step, reason, 2, made)


longer = Journal().lines(RUN).lines(short("later"))
against(
    "truncated", "The reader kept a checkpoint of more entries.", "J8", "JOURNAL_TRUNCATED", longer.note()
)
against(
    "fork",
    "The reader kept a checkpoint of another tree.",
    "J9",
    "CHECKPOINT_MISMATCH",
    longer.note(size=2, tree_root=bytes(32)),
)
against(
    "signature",
    "What the reader kept is signed by another key.",
    "T3",
    "CHECKPOINT_SIGNATURE",
    longer.note(size=2, signer=key("checkpoint", 9)),
)
against("malformed", "What the reader kept is no checkpoint.", "T1", "CHECKPOINT_MALFORMED", b"kept\n")

# --- One receipt and a trust document ---

TRUSTED = expect(0, integrity="ok", authenticity="trusted")


def listed_receipt(name, about, expected, rows):
    receipt(name, about, expected, rows=rows)


def receipt_row(**members):
    return [RECEIPT | members, MANIFEST, CHECKPOINT]


listed_receipt("valid-receipt-trust", "One receipt alone and a trust document.", TRUSTED, ROWS)
listed_receipt(
    "forged-receipt-trust-unknown",
    "The trust document does not list the key that signed.",
    failed("M6", "KEY_UNKNOWN"),
    Keys(5).rows(),
)
listed_receipt(
    "forged-receipt-trust-use",
    "The trust document lists the key that signed for another use.",
    failed("M6", "KEY_UNKNOWN"),
    receipt_row(use="manifest"),
)
listed_receipt(
    "forged-receipt-trust-instance",
    "The trust document lists the key that signed for another instance.",
    failed("L8", "KEY_MISMATCH", 1),
    receipt_row(iss="gw.example.org/main/2"),
)
listed_receipt(
    "forged-receipt-trust-revoked",
    "The key that signed is revoked, and one receipt alone has no place in the log.",
    expect(2, "KEY_REVOKED", 1, authenticity="failed"),
    receipt_row(revoked_from_index=1_000_000),
)
listed_receipt(
    "forged-receipt-trust-invalid", "The trust document lists no key.", unusable(), []
)
