"""Class forged: the manifest, its keys and its envelope."""

import base64

import ec
from pef import P256, PAE_ENTRY, PAE_STATEMENT, envelope, key, pae
from run import Bundle, Keys, Run
from runs import instance
from tools import dropping, file, flip, replacing, setting, small, tiny
from vector import failed, vector


def forged(name, about, step, reason, **bundle):
    vector(f"forged-{name}", about, failed(step, reason), Bundle(**{"run": tiny(), **bundle}))


# --- Manifest ---

for case, about, change in (
    ("line-feed", "ends in a line feed", lambda data: data + b"\n"),
    ("space", "holds a space", replacing(b'"build":', b'"build": ')),
    ("twice", "has a member twice", replacing(b'"v":"pef/v0"', b'"v":"pef/v0","v":"pef/v0"')),
    ("not-json", "is cut off", lambda data: data[:-1]),
    ("array", "is an array", lambda data: b"[" + data + b"]"),
):
    forged(f"manifest-{case}", f"The manifest {about}.", "M1", "MANIFEST_MALFORMED", manifest_bytes=change)
for case, about, change in (
    ("unknown-member", "has a member that the schema does not know", setting(surprise=1)),
    ("no-counters", "has no counters", dropping("counters")),
    ("version", "is of another version", setting(v="pef/v1")),
    ("no-keys", "lists no key", setting(keys=[])),
    ("unknown-role", "lists a file with an unknown role", lambda made: made["files"][0].update(role="misc")),
):
    forged(f"manifest-{case}", f"The manifest {about}.", "M2", "MANIFEST_SCHEMA", manifest=change)
forged(
    "manifest-bit",
    "One bit of the manifest was flipped after signing.",
    "S4",
    "MANIFEST_MISMATCH",
    after=file("manifest.json", replacing(b'"class":"caller"', b'"class":"ambient"')),
)
forged(
    "manifest-bit-ext",
    "A member that nothing else binds was put into the manifest after signing.",
    "F5",
    "STATEMENT_MISMATCH",
    unlisted=file("manifest.json", replacing(b'"externals":', b'"ext":{},"externals":')),
)

ZERO = "0" * 64
other = "2026-11-21T04:00:00.000001Z"
MISMATCHES = {
    "tree-size": lambda made: made["tree"].update(size=5),
    "tree-root": lambda made: made["tree"].update(root="root:" + ZERO),
    "counters": lambda made: made["counters"].update(allow=2),
    "claims": setting(claims={"agent": ["nobody"]}),
    "policies": lambda made: made["policies"].append("sha256:" + "f" * 64),
    "policies-empty": setting(policies=[]),
    "sign": setting(sign="each"),
    "durability": setting(durability="sync"),
    "class": setting(**{"class": "ambient"}),
    "name": setting(name="a name"),
    "opened": setting(opened=other),
    "sealed": setting(sealed=other),
    "seal-reason": setting(seal_reason="timeout"),
    "build": lambda made: made["build"].update(version="9.9.9"),
    "build-digest": lambda made: made["build"].update(digest="sha256:" + ZERO),
    "metrics-p50": lambda made: made["metrics"].update(total_p50_us=1001),
    "metrics-p99": lambda made: made["metrics"].update(total_p99_us=999),
    "metrics-partly-absent": lambda made: made["metrics"].pop("total_p95_us"),
}
for case, change in MISMATCHES.items():
    forged(
        f"manifest-{case}",
        f"The signed manifest does not say what the lines say: {case}.",
        "S4",
        "MANIFEST_MISMATCH",
        run=small() if case.startswith("metrics") else tiny(),
        manifest=change,
    )
forged(
    "manifest-name-absent",
    "The manifest leaves out the run's name.",
    "S4",
    "MANIFEST_MISMATCH",
    run=tiny(name="named"),
    manifest=dropping("name"),
)
claimed = Run("claims absent")
claimed.call(1, claims={"agent": "a", "job_id": "j"})
forged(
    "manifest-claims-absent",
    "The manifest leaves out a claim.",
    "S4",
    "MANIFEST_MISMATCH",
    run=claimed.seal(),
    manifest=lambda made: made["claims"].pop("job_id"),
)
forged(
    "manifest-metrics-of-no-call",
    "The manifest of a run without calls has percentiles.",
    "S4",
    "MANIFEST_MISMATCH",
    run=instance("metrics"),
    manifest=setting(metrics={"total_p50_us": 0, "total_p95_us": 0, "total_p99_us": 0}),
)
forged(
    "manifest-metrics-empty",
    "The manifest of a run without calls has metrics with nothing in them.",
    "S4",
    "MANIFEST_MISMATCH",
    manifest=setting(metrics={}),
)
forged(
    "manifest-metrics-absent",
    "The manifest of a run with a call has no metrics.",
    "S4",
    "MANIFEST_MISMATCH",
    run=small(),
    manifest=dropping("metrics"),
)
many = Run("claims order", sign="checkpoint")
for number in range(2):
    many.call(number, claims={"agent": "ab"[number]})
forged(
    "manifest-claims-order",
    "The manifest lists the values of a claim in the wrong order.",
    "S4",
    "MANIFEST_MISMATCH",
    run=many.seal(),
    manifest=lambda made: made["claims"]["agent"].reverse(),
)

# --- Keys in the manifest ---

forged(
    "key-id",
    "A key's id is not the hash of its SPKI.",
    "M3",
    "KEY_ID_MISMATCH",
    manifest=lambda made: made["keys"].append(key("receipt", 9).row() | {"kid": ZERO}),
)
forged(
    "key-twice",
    "A key is listed twice.",
    "M3",
    "KEY_ID_MISMATCH",
    manifest=lambda made: made["keys"].append(made["keys"][0]),
)
forged(
    "key-two-uses",
    "One key has two uses.",
    "M3",
    "KEY_ID_MISMATCH",
    manifest=lambda made: made["keys"].append(made["keys"][0] | {"use": "checkpoint"}),
)

for case, about, change in (
    ("bits", "trailing bits", lambda text: text[:-2] + "x="),
    ("padding", "no padding", lambda text: text[:-1]),
):
    spki = change(key("receipt", 9).row()["spki"])
    forged(
        f"key-base64-{case}",
        f"The SPKI of a further key is base64 with {about}.",
        "M3",
        "KEY_ID_MISMATCH",
        manifest=lambda made, spki=spki: made["keys"].append(key("receipt", 9).row() | {"spki": spki}),
    )

# --- Envelope ---


def altered(**members):
    return lambda made: made | members


def signed_as(signer, **more):
    """A hook: the same payload in an envelope by another key or in another form."""
    return lambda made: envelope(PAE_STATEMENT, base64.b64decode(made["payload"]), signer, **more)


def two_signatures(made):
    return made | {"signatures": made["signatures"] * 2}


def signature_text(change):
    def hook(made):
        row = made["signatures"][0]
        return made | {"signatures": [row | {"sig": change(row["sig"])}]}

    return hook


def loose_bits(text):
    """Sets a bit of the last quantum that base64 does not use: "==" leaves four of them."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    return text[:-3] + alphabet[alphabet.index(text[-3]) | 1] + "=="


def raw_p256(made):
    signer = key("manifest", 1, P256)
    payload = base64.b64decode(made["payload"])
    return envelope(PAE_STATEMENT, payload, signer, signature=signer.sign(pae(PAE_STATEMENT, payload)))


for case, about, hooks in (
    ("space", "holds a space", {"envelope_bytes": replacing(b":", b": ")}),
    ("line-feed", "ends in a line feed", {"envelope_bytes": lambda data: data + b"\n"}),
    ("unknown-member", "has a further member", {"envelope": altered(extra=1)}),
    (
        "signature-member",
        "has a further member beside its signature",
        {"envelope": lambda made: made | {"signatures": [made["signatures"][0] | {"alg": "ed25519"}]}},
    ),
    ("no-signature", "has no signature", {"envelope": altered(signatures=[])}),
    ("two-signatures", "has two signatures", {"envelope": two_signatures}),
    ("other-type", "has another payload type", {"envelope": altered(payloadType=PAE_ENTRY)}),
    ("base64-bits", "has base64 with trailing bits", {"envelope": signature_text(loose_bits)}),
    (
        "base64-padding",
        "has base64 without padding",
        {"envelope": signature_text(lambda text: text.rstrip("="))},
    ),
    (
        "base64-line-break",
        "has base64 with a line break",
        {"envelope": signature_text(lambda text: text[:40] + "\n" + text[40:])},
    ),
    ("payload-space", "has a payload that is not canonical", {"payload": replacing(b":", b": ")}),
    (
        "payload-twice",
        "has a payload with a member twice",
        {"payload": replacing(b'"_type"', b'"_type":"","_type"')},
    ),
):
    forged(f"envelope-{case}", f"The manifest's envelope {about}.", "M5", "ENVELOPE_MALFORMED", **hooks)
forged(
    "envelope-unknown-key",
    "The envelope names a key that the manifest does not list.",
    "M6",
    "KEY_UNKNOWN",
    envelope=signed_as(key("manifest", 9)),
)
forged(
    "envelope-receipt-key",
    "The manifest is signed by the receipt key.",
    "M6",
    "KEY_UNKNOWN",
    envelope=signed_as(key("receipt")),
)
forged(
    "envelope-checkpoint-key",
    "The manifest is signed by the checkpoint key.",
    "M6",
    "KEY_UNKNOWN",
    envelope=signed_as(key("checkpoint")),
)
forged(
    "envelope-receipt-signature",
    "The receipt key's signature stands under the manifest key's id.",
    "M7",
    "ENVELOPE_SIGNATURE",
    envelope=signed_as(key("receipt"), keyid=key("manifest").kid),
)
forged(
    "envelope-signature-bit",
    "One bit of the envelope's signature was flipped.",
    "M7",
    "ENVELOPE_SIGNATURE",
    envelope=lambda made: signed_as(key("manifest"), signature=flip(bytes(64)))(made),
)
forged(
    "envelope-raw-p256",
    "A P-256 signature of 64 bytes stands where DER belongs.",
    "M7",
    "ENVELOPE_SIGNATURE",
    run=tiny(Keys(1, P256)),
    envelope=raw_p256,
)


def der(change):
    """A hook: the P-256 envelope signature, its DER as `change(r, s)` makes it."""

    def hook(made):
        payload, signer = base64.b64decode(made["payload"]), key("manifest", 1, P256)
        raw = signer.sign(pae(PAE_STATEMENT, payload))
        r, s = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
        return envelope(PAE_STATEMENT, payload, signer, signature=change(r, s))

    return hook


def padded(r, s):
    """A zero byte more before s than DER has."""
    body = ec.der_integer(r)
    long = ec.der_integer(s)[2:]
    body += bytes([2, len(long) + 1, 0]) + long
    return bytes([0x30, len(body)]) + body


def negative(r, s):
    """r without the zero byte that keeps it positive, or with its sign bit set."""
    body = b"\x02\x20" + (r | 1 << 255).to_bytes(32, "big") + ec.der_integer(s)
    return bytes([0x30, len(body)]) + body


def long_length(r, s):
    body = ec.der_signature(r, s)[2:]
    return bytes([0x30, 0x81, len(body)]) + body


for case, about, change in (
    ("padded", "an integer with a leading zero too many", padded),
    ("negative", "a negative integer", negative),
    ("long-length", "a length in the long form", long_length),
    ("trailing", "a byte after the sequence", lambda r, s: ec.der_signature(r, s) + b"\0"),
):
    forged(
        f"envelope-der-{case}",
        f"The envelope's P-256 signature is DER with {about}.",
        "M7",
        "ENVELOPE_SIGNATURE",
        run=tiny(Keys(1, P256)),
        envelope=der(change),
    )
