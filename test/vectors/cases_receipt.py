"""One receipt alone (SPEC section 14)."""

from pef import P256, PAE_ENTRY, PAE_STATEMENT, b64, envelope, key, pae
from receipts import receipt
from run import Keys, Lines
from runs import etl, language_model
from tools import flip, setting, small
from vector import expect, failed

TRUSTED = expect(0, integrity="ok", authenticity="trusted")
LINE = Lines(small()).lines[1]


def signed(text):
    """A hook on an envelope: another signature, in base64."""
    return lambda made: made | {"signatures": [made["signatures"][0] | {"sig": text}]}


def valid(name, about, **more):
    receipt(f"valid-receipt-{name}", about, TRUSTED, **more)


def forged(name, about, step, reason, seq=None, **more):
    receipt(f"forged-receipt-{name}", about, failed(step, reason, seq), **more)


valid("ed25519", "One receipt alone and its key.")
valid("p256", "One receipt alone with a P-256 key.", run=small(Keys(1, P256)))
valid(
    "language-model", "A receipt with everything that a streamed chat leaves.", run=language_model("receipt")
)
valid("etl", "A receipt with stored bodies and lineage.", run=etl("receipt"), seq=2)
valid("open", "run.open alone: any entry can be exported.", seq=0)

forged("other-key", "The given key is not the one that signed.", "M6", "KEY_UNKNOWN", given=key("receipt", 9))
forged(
    "keyid",
    "The envelope names another key than the given one, which signed.",
    "M6",
    "KEY_UNKNOWN",
    change=lambda made: made | {"signatures": [made["signatures"][0] | {"keyid": "0" * 64}]},
)
forged(
    "signature-bit",
    "One bit of the signature was flipped.",
    "M7",
    "ENVELOPE_SIGNATURE",
    change=signed(b64(flip(bytes(64)))),
)
forged(
    "payload-bit",
    "One number of the line was changed after signing.",
    "M7",
    "ENVELOPE_SIGNATURE",
    change=lambda made: made | {"payload": b64(LINE.replace(b'"attempt":1', b'"attempt":2'))},
)
forged(
    "kid",
    "The line names another key than the one that signed the envelope.",
    "L8",
    "KEY_MISMATCH",
    1,
    edit=setting(kid=key("receipt", 9).kid),
)
forged(
    "type-in-toto",
    "The envelope has the type of in-toto statements, and is signed so.",
    "M5",
    "ENVELOPE_MALFORMED",
    change=lambda made: envelope(PAE_STATEMENT, LINE, key("receipt")),
)
forged(
    "type-changed",
    "The envelope's type is right, the signature covers another.",
    "M7",
    "ENVELOPE_SIGNATURE",
    change=lambda made: envelope(
        PAE_ENTRY, LINE, key("receipt"), signature=key("receipt").sign(pae(PAE_STATEMENT, LINE))
    ),
)
forged(
    "line-feed",
    "The envelope ends in a line feed.",
    "M5",
    "ENVELOPE_MALFORMED",
    last=lambda data: data + b"\n",
)
forged(
    "two-signatures",
    "The envelope has two signatures.",
    "M5",
    "ENVELOPE_MALFORMED",
    change=lambda made: made | {"signatures": made["signatures"] * 2},
)
forged(
    "unknown-member",
    "The envelope has a further member.",
    "M5",
    "ENVELOPE_MALFORMED",
    change=lambda made: made | {"seq": 1},
)
forged(
    "payload-url-base64",
    "The payload is in the URL alphabet of base64.",
    "M5",
    "ENVELOPE_MALFORMED",
    edit=setting(ext={"a": "\u00ff\u00fe?>"}),
    change=lambda made: made | {"payload": made["payload"].replace("+", "-").replace("/", "_")},
)
forged(
    "payload-line-feed",
    "The payload is the line with its LF.",
    "L3",
    "LINE_NOT_CANONICAL",
    1,
    raw=lambda line: line + b"\n",
)
forged("payload-empty", "The payload is empty.", "L1", "LINE_LENGTH", raw=lambda line: b"")
forged(
    "p256-raw",
    "A P-256 signature stands in the form of receipts.sig.",
    "M7",
    "ENVELOPE_SIGNATURE",
    run=small(Keys(1, P256)),
    change=signed(b64(key("receipt", 1, P256).sign(pae(PAE_ENTRY, Lines(small(Keys(1, P256))).lines[1])))),
)
