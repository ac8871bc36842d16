"""Class forged: bytes that were changed after signing, and lines that a wrong or lying producer signed."""

import ec
from pef import ED25519_SPKI, P256, PAE_ENTRY, PAE_STATEMENT, Key, content, key, leaf, pae, uuid
from run import Bundle, Keys, Lines, Run
from tools import file, flip, lined, plain, replacing, setting, small, tiny
from vector import failed, vector


def forged(name, about, step, reason, seq=None, **bundle):
    vector(f"forged-{name}", about, failed(step, reason, seq), Bundle(**{"run": plain(), **bundle}))


def edited(name, about, step, reason, seq, edit, *, run=None, at=None, **more):
    """A line that its producer changed, then chained and signed."""
    forged(
        name,
        about,
        step,
        reason,
        seq,
        **lined(run or plain(), edit={seq if at is None else at: edit}),
        **more,
    )


# --- Flipped bits ---

total = replacing(b'"total_us":1000', b'"total_us":1001')
forged(
    "line-bit",
    "One bit of the first call was flipped after signing.",
    "L10",
    "SIGNATURE_INVALID",
    1,
    run=small(),
    after=file("receipts.ndjson", total),
)
forged(
    "line-bit-sign-checkpoint",
    "One bit of the first call was flipped where lines have no signatures.",
    "L7",
    "CHAIN_BROKEN",
    2,
    run=small(sign="checkpoint"),
    after=file("receipts.ndjson", total),
)
forged(
    "seal-bit-sign-checkpoint",
    "The seal's reason was changed where lines have no signatures.",
    "S4",
    "MANIFEST_MISMATCH",
    run=plain(sign="checkpoint"),
    after=file("receipts.ndjson", replacing(b'"reason":"clean"', b'"reason":"timeout"')),
)
forged(
    "signature-bit",
    "One bit of the third line's signature was flipped.",
    "L10",
    "SIGNATURE_INVALID",
    2,
    **lined(plain(), sig={2: flip}),
)
forged(
    "signature-r-bit",
    "One bit of R in the signature of the seal was flipped.",
    "L10",
    "SIGNATURE_INVALID",
    3,
    **lined(plain(), sig={3: lambda signature: flip(signature, 0)}),
)
forged(
    "signature-bit-p256",
    "One bit of a P-256 signature was flipped.",
    "L10",
    "SIGNATURE_INVALID",
    1,
    **lined(plain(Keys(1, P256)), sig={1: flip}),
)

# --- Signatures that only a lax verifier takes ---

SIGNED = tiny(sign="each")
forged(
    "signature-by-other-key",
    "A line was signed by another receipt key of the bundle.",
    "L10",
    "SIGNATURE_INVALID",
    1,
    **lined(SIGNED, signer={1: key("receipt", 9)}),
    manifest=lambda made: made["keys"].append(key("receipt", 9).row()),
)
forged(
    "signature-other-type",
    "Lines were signed as in-toto statements.",
    "L10",
    "SIGNATURE_INVALID",
    0,
    **lined(SIGNED, pae_type=PAE_STATEMENT),
)
forged(
    "signatures-swapped",
    "The signatures of two lines changed places.",
    "L10",
    "SIGNATURE_INVALID",
    0,
    run=SIGNED,
    sigfile=lambda data: data[64:] + data[:64],
)


def signed_again(**how):
    """The seal's signature, made in an odd way."""
    message = pae(PAE_ENTRY, Lines(SIGNED).lines[1])
    return {1: lambda signature: ec.ed_sign(key("receipt").seed, message, **how)}


forged(
    "signature-s-not-reduced",
    "An Ed25519 signature with S + L in place of S.",
    "L10",
    "SIGNATURE_INVALID",
    1,
    **lined(SIGNED, sig=signed_again(extra=1)),
)
forged(
    "signature-cofactor",
    "An Ed25519 signature that satisfies only the equation with the cofactor.",
    "L10",
    "SIGNATURE_INVALID",
    1,
    **lined(SIGNED, sig=signed_again(torsion=(0, ec.P - 1, 1, 0))),
)


def without_nonce(_):
    """R is the identity and S = k·a: the equation holds, but R has small order."""
    message = pae(PAE_ENTRY, Lines(SIGNED).lines[1])
    r = ec.ed_encode(ec.IDENTITY)
    scalar, _ = ec.ed_expand(key("receipt").seed)
    return r + (ec.ed_hash(r, key("receipt").public, message) * scalar % ec.L).to_bytes(32, "little")


forged(
    "signature-r-of-small-order",
    "An Ed25519 signature whose R is the identity point.",
    "L10",
    "SIGNATURE_INVALID",
    1,
    **lined(SIGNED, sig={1: without_nonce}),
)


class SmallOrder(Key):
    """The identity as a public key: R = [S]B verifies for every message."""

    def __init__(self, encoding):
        super().__init__("small order", "receipt")
        self.public, self.spki = encoding, ED25519_SPKI + encoding
        self.kid = content(self.spki)[7:]

    def sign(self, message):
        return ec.ed_encode(ec.BASE) + (1).to_bytes(32, "little")


identity = Keys()
identity.receipt = SmallOrder((1).to_bytes(32, "little"))
forged(
    "key-of-small-order",
    "The receipt key is the identity point, under which R = [S]B signs anything.",
    "L10",
    "SIGNATURE_INVALID",
    0,
    run=tiny(identity, "each"),
)
identity = Keys()
identity.receipt = SmallOrder((ec.P + 1).to_bytes(32, "little"))
forged(
    "key-not-canonical",
    "The receipt key is the identity point in an encoding that is not canonical.",
    "L10",
    "SIGNATURE_INVALID",
    0,
    run=tiny(identity, "each"),
)

for case, r, s in (("zero-r", 0, 1), ("zero-s", 1, 0), ("s-is-n", 1, ec.N), ("r-is-n", ec.N, 1)):
    signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    forged(
        f"p256-{case}",
        f"A P-256 signature out of range: {case}.",
        "L10",
        "SIGNATURE_INVALID",
        1,
        **lined(tiny(Keys(1, P256), "each"), sig={1: lambda _, signature=signature: signature}),
    )

# --- What the producer wrote wrongly and signed rightly ---

ZERO = "0" * 64
edited(
    "prev",
    "The third line's prev is not the first call's hash.",
    "L7",
    "CHAIN_BROKEN",
    2,
    setting(prev="leaf:" + ZERO),
)
edited(
    "prev-skips",
    "The third line's prev is the hash of run.open.",
    "L7",
    "CHAIN_BROKEN",
    2,
    setting(prev="leaf:" + leaf(Lines(plain()).lines[0]).hex()),
)
edited("seq", "The third line says seq 3.", "L5", "SEQ_MISMATCH", 2, setting(seq=3))
edited("seq-repeated", "The third line says seq 1 again.", "L5", "SEQ_MISMATCH", 2, setting(seq=1))
edited("run-id", "One call names another run.", "L6", "RUN_MISMATCH", 1, setting(run=uuid("other run")))
edited(
    "iss", "One call names another instance.", "L6", "RUN_MISMATCH", 2, setting(iss="gw.example.org/main/2")
)
edited(
    "mono",
    "The clock of the third line is before the first.",
    "L9",
    "TIME_REVERSED",
    2,
    setting(mono_us=1499),
)
edited(
    "kid-swap",
    "One call names another receipt key of the bundle, which signed it.",
    "L8",
    "KEY_MISMATCH",
    2,
    setting(kid=key("receipt", 9).kid),
    manifest=lambda made: made["keys"].append(key("receipt", 9).row()),
)
edited(
    "kid-of-manifest-key",
    "run.open names the manifest key as its receipt key.",
    "L8",
    "KEY_MISMATCH",
    0,
    setting(kid=key("manifest").kid),
)
edited(
    "kid-not-listed",
    "run.open names a key that the manifest does not list.",
    "L8",
    "KEY_MISMATCH",
    0,
    setting(kid=key("receipt", 9).kid),
)

second = Run("second open")
second.add("gap", reason="DISK_FULL")
second.steps.append((dict(second.steps[0][0]), second.current))
forged(
    "second-open",
    "run.open comes again inside the run.",
    "L5",
    "SEQ_MISMATCH",
    2,
    **lined(second.seal(), edit={2: lambda entry: (entry.pop("prev"), entry.update(seq=0, mono_us=2000))}),
)

late = plain()
late.add("gap", reason="DISK_FULL")
forged("after-seal", "An entry follows the seal.", "L12", "SEAL_NOT_LAST", 4, run=late)
twice = plain().seal()
forged("two-seals", "A second seal follows the first.", "L12", "SEAL_NOT_LAST", 4, run=twice)


def counter(name, by):
    def edit(entry):
        entry["counters"][name] += by

    return edit


edited(
    "seal-root",
    "The seal's root is not that of the tree.",
    "S3",
    "SEAL_MISMATCH",
    3,
    setting(root="root:" + ZERO),
)
edited("seal-count", "The seal counts itself.", "S3", "SEAL_MISMATCH", 3, setting(count=4))
edited(
    "seal-head",
    "The seal's head is not the entry before it.",
    "S3",
    "SEAL_MISMATCH",
    3,
    setting(head="leaf:" + ZERO),
)
for name in ("calls", "allow", "repair", "incomplete"):
    edited(
        f"seal-counter-{name}",
        f"The seal counts one too many: {name}.",
        "S3",
        "SEAL_MISMATCH",
        3,
        counter(name, 1),
    )
hidden = Run("hidden")
hidden.add("interrupted", call=uuid("call"), reason="SHUTDOWN")
edited(
    "seal-counter-hidden",
    "The seal leaves out an interrupted call.",
    "S3",
    "SEAL_MISMATCH",
    2,
    counter("interrupted", -1),
    run=hidden.seal(),
)
