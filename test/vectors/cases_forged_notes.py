"""Class forged: checkpoints and anchors."""

from pef import b64, key, root, sha
from run import ISS, Bundle, Lines, uuid
from tools import flip, replacing, tiny
from vector import failed, vector


def forged(name, about, step, reason, seq=None, *, trust=None, **bundle):
    answer = failed(step, reason, seq, anchored="anchor" in bundle)
    vector(f"forged-{name}", about, answer, Bundle(**{"run": tiny(), **bundle}), trust=trust)


def change(**members):
    """A hook on the arguments of a note."""
    return lambda made: made | members


# --- Checkpoint ---

ORIGIN = f"{ISS}/run/{tiny().id}"
ROOT = root(Lines(tiny()).hashes())
TEXT = f"{ORIGIN}\n2\n{b64(ROOT)}\n"

for case, about, text in (
    ("origin", "is of another run", TEXT.replace(tiny().id, uuid("other"))),
    ("origin-instance", "is one of the instance log", TEXT.replace(ORIGIN, ISS)),
    ("size-zero-first", "has a size with a leading zero", TEXT.replace("\n2\n", "\n02\n")),
    ("root-short", "has a root of 31 bytes", TEXT.replace(b64(ROOT), b64(ROOT[:31]))),
    ("fourth-line", "has a fourth line", TEXT + "more\n"),
    ("carriage-return", "ends its lines in CRLF", TEXT.replace("\n", "\r\n")),
):
    forged(
        f"checkpoint-{case}",
        f"The checkpoint {about}, and is signed so.",
        "T1",
        "CHECKPOINT_MALFORMED",
        checkpoint=change(text=text.encode()),
    )
for case, about, how in (
    ("no-line-feed", "does not end in a line feed", lambda data: data[:-1]),
    ("hyphen", "has a hyphen before its signature", lambda data: data.replace("\u2014".encode(), b"-")),
    ("two-signatures", "has two signatures", lambda data: data + data[data.index("\u2014".encode()) :]),
    ("no-signature", "has no signature", lambda data: data[: data.index("\u2014".encode())]),
    (
        "signature-short",
        "has a signature that is cut off",
        lambda data: data[: data.rindex(b" ") + 1] + b64(bytes(30)).encode() + b"\n",
    ),
):
    forged(
        f"checkpoint-{case}", f"The checkpoint {about}.", "T1", "CHECKPOINT_MALFORMED", checkpoint_bytes=how
    )
forged(
    "checkpoint-size",
    "The checkpoint signs another size.",
    "T2",
    "CHECKPOINT_MISMATCH",
    checkpoint=change(size=1),
)
forged(
    "checkpoint-root",
    "The checkpoint signs another root.",
    "T2",
    "CHECKPOINT_MISMATCH",
    checkpoint=change(tree_root=flip(ROOT)),
)
forged(
    "checkpoint-root-without-seal",
    "The checkpoint signs the tree without the seal.",
    "T2",
    "CHECKPOINT_MISMATCH",
    checkpoint=change(tree_root=root(Lines(tiny()).hashes()[:1])),
)
for case, about, more in (
    (
        "bit",
        "One bit of the checkpoint's signature was flipped.",
        {"signature": flip(key("checkpoint").sign(TEXT.encode()))},
    ),
    (
        "name",
        "The checkpoint's signature has another name than the instance.",
        {"name": "gw.example.org/main/2"},
    ),
    ("id", "The checkpoint's signature has an id that is no key's.", {"key_id": b"\0\1\2\3"}),
    (
        "id-other-algorithm",
        "The id is made with another algorithm's byte.",
        {"key_id": sha(f"{ISS}\n\2".encode() + key("checkpoint").public)[:4]},
    ),
    (
        "unlisted-key",
        "The checkpoint is signed by a key that the manifest does not list.",
        {"signer": key("checkpoint", 9)},
    ),
    ("receipt-key", "The checkpoint is signed by the receipt key.", {"signer": key("receipt")}),
    (
        "signed-without-line-feed",
        "The signature covers the text without its last line feed.",
        {"signed": TEXT[:-1].encode()},
    ),
    (
        "of-other-text",
        "The signature is that of another checkpoint.",
        {"signed": TEXT.replace("\n2\n", "\n5\n").encode()},
    ),
):
    forged(f"checkpoint-signature-{case}", about, "T3", "CHECKPOINT_SIGNATURE", checkpoint=change(**more))

# --- Anchor ---


def anchored(name, about, step, reason, anchor=None, **more):
    place = {"before": 7, "after": 3, **(anchor or {})}
    forged(f"anchor-{name}", about, step, reason, anchor=place, **more)


for case, about, how in (
    ("header", "has another first line", replacing(b"@v1", b"@v2")),
    ("index-zero-first", "has an index with a leading zero", replacing(b"index 8", b"index 08")),
    (
        "hash-short",
        "has a hash of 31 bytes",
        lambda data: data.replace(data.split(b"\n")[2], b64(bytes(31)).encode()),
    ),
    (
        "no-empty-line",
        "lacks the empty line before its checkpoint",
        replacing(f"\n\n{ISS}".encode(), f"\n{ISS}".encode()),
    ),
):
    anchored(case, f"The anchor {about}.", "A1", "ANCHOR_MALFORMED", anchor_bytes=how)
anchored(
    "origin",
    "The anchor's checkpoint is of another log.",
    "A1",
    "ANCHOR_MALFORMED",
    {"note": {"origin": "gw.example.org/main/2"}},
)
anchored(
    "index",
    "The anchor states the index of the entry before the seal.",
    "A2",
    "ANCHOR_MISMATCH",
    {"index": 7},
)
anchored(
    "index-after-size",
    "The anchor states an index that the log does not reach.",
    "A2",
    "ANCHOR_MISMATCH",
    {"index": 12},
)
anchored(
    "root",
    "The anchor's checkpoint has another root.",
    "A2",
    "ANCHOR_MISMATCH",
    {"note": {"tree_root": bytes(32)}},
)
anchored(
    "path-bit",
    "One bit of the anchor's path was flipped.",
    "A2",
    "ANCHOR_MISMATCH",
    anchor_bytes=lambda data: data.replace(data.split(b"\n")[2], b64(bytes(32)).encode()),
)
anchored(
    "path-short",
    "The anchor's path lacks a hash.",
    "A2",
    "ANCHOR_MISMATCH",
    anchor_bytes=lambda data: data.replace(data.split(b"\n")[3] + b"\n", b"", 1),
)
anchored(
    "path-long",
    "The anchor's path has a hash too many.",
    "A2",
    "ANCHOR_MISMATCH",
    anchor_bytes=lambda data: data.replace(
        data.split(b"\n")[2], data.split(b"\n")[2] + b"\n" + b64(bytes(32)).encode(), 1
    ),
)
anchored(
    "signature-bit",
    "One bit of the signature in the anchor was flipped.",
    "A3",
    "ANCHOR_SIGNATURE",
    {"note": {"signature": bytes(64)}},
)
anchored(
    "signature-name",
    "The signature in the anchor has another name.",
    "A3",
    "ANCHOR_SIGNATURE",
    {"note": {"name": "gw.example.org/main/2"}},
)
anchored(
    "signature-key",
    "The anchor is signed by a key that the manifest does not list.",
    "A3",
    "ANCHOR_SIGNATURE",
    {"note": {"signer": key("checkpoint", 9)}},
)
