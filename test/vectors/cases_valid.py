"""Bundles that pass every step."""

import base64

import ec
from pef import P256, PAE_STATEMENT, canonical, content, envelope, key, pae, trust
from run import Bundle, Keys, Run, uuid
from runs import STREAM, etl, externals, instance, language_model, robot, sse
from tools import lined, plain, setting, small
from vector import passed, vector


def valid(name, about, run, *, trusted=False, trust=None, directory=False, **more):
    answer = passed(trusted=trusted, anchored="anchor" in more)
    vector(f"valid-{name}", about, answer, Bundle(run, **more), trust=trust, directory=directory)


valid("minimal", "One call, Ed25519 keys, every line signed.", small())
valid("p256", "P-256 receipt and manifest keys.", small(Keys(1, P256)))
valid("sign-checkpoint", "Lines are signed through the checkpoint alone.", small(sign="checkpoint"))
valid("empty-run", "A run that was opened and sealed with nothing between.", Run("empty").seal())
valid("directory", "The directory form.", small(), directory=True)
valid("directory-external", "The directory form with content in bundle.d.", externals(), directory=True)
valid(
    "language-model",
    "A streamed chat, a repair, a block, two attempts, claims, a contract.",
    language_model(),
)
unstored = Run("stream without nodes")
unstored.call(1, sse=sse(unstored, unstored.call_id(1), STREAM, events=3, stored=False))
valid("stream-without-nodes", "A stream of which the root is recorded, and no nodes.", unstored.seal())
valid("etl", "An ETL job with intents, stored bodies and lineage, and no language model.", etl())
valid("rpa", "A robot with a hold, a gap and two interrupted calls, sealed at shutdown.", robot())
valid("instance", "The instance's own events and no call: no metrics.", instance())
valid(
    "ambient",
    "A run of class ambient, whose journal is kept in memory.",
    small(klass="ambient", durability="memory"),
)
valid("external", "Stored content beside the bundle.", externals())

recovered = Run("recovered", previous_seal="leaf:" + "5a" * 32, contracts=[content(b"{}")])
recovered.contracts[content(b"{}")] = b"{}"
recovered.call(1)
valid(
    "crash-recovered",
    "Sealed after a crash, with a previous seal and a listed contract.",
    recovered.seal("crash_recovered"),
)

valid("trust", "A trust document lists all three keys.", small(), trusted=True, trust=trust(*Keys().rows()))
valid(
    "trust-p256",
    "A trust document lists P-256 keys.",
    small(Keys(1, P256)),
    trusted=True,
    trust=trust(*Keys(1, P256).rows()),
)
valid(
    "trust-more-keys",
    "The trust document also lists keys of others.",
    small(),
    trusted=True,
    trust=trust(*Keys(7).rows("other.example.org/main/1"), *Keys().rows(), *Keys(8, P256).rows()),
)


def rows_revoked(use, index):
    return [row | ({"revoked_from_index": index} if row["use"] == use else {}) for row in Keys().rows()]


valid(
    "trust-revoked-later",
    "The receipt key was revoked from the log index after the seal's.",
    small(),
    trusted=True,
    anchor={"before": 3, "after": 2},
    trust=trust(*rows_revoked("receipt", 7)),
)

for before, after in ((0, 0), (0, 1), (3, 6), (11, 4), (60, 37)):
    size = before + 4 + after
    valid(
        f"anchored-{before + 3}-of-{size}",
        f"Anchored: the seal is entry {before + 3} of a log of {size}.",
        plain(),
        anchor={"before": before, "after": after},
    )

for use in ("receipt", "manifest", "checkpoint"):
    run = Run(f"rotate {use}")
    run.call(1)
    run.rotate(use, key(use, 2, "ed25519" if use == "checkpoint" else P256))
    run.call(2)
    signed = "Later lines are signed by the new key." if use == "receipt" else "The new key signs the bundle."
    valid(
        f"rotate-{use}",
        f"The {use} key is rotated. {signed}",
        run.seal(),
        trusted=True,
        trust=trust(*Keys().rows()),
    )

run = Run("rotate twice")
run.rotate("receipt", key("receipt", 2))
run.call(1)
run.rotate("receipt", key("receipt", 3, P256))
valid("rotate-receipt-twice", "The receipt key is rotated twice, once to P-256.", run.seal())

run = Run("rotate at checkpoint", sign="checkpoint")
run.call(1)
run.rotate("receipt", key("receipt", 2))
valid("rotate-sign-checkpoint", "A receipt key is rotated where lines have no signatures.", run.seal())


def high(signature):
    """The other s of an ECDSA signature."""
    s = int.from_bytes(signature[32:], "big")
    return signature[:32] + (ec.N - s).to_bytes(32, "big")


valid(
    "p256-high-s",
    "A P-256 signature with s above n/2, which verifiers take.",
    **lined(small(Keys(1, P256)), sig={1: high}),
)

# --- Strings and numbers that a canonicalizer can get wrong ---

odd = Run("odd text", name="\U0001f600" * 128)
odd.call(
    1,
    total=2**53 - 1,
    operation="nfc \u00e9 nfd e\u0301 \u007f\u0080\u2028\u2029\ufeff",
    ext={
        "\ue000": "private use sorts after the emoji",
        "\U0001f600": "surrogates sort below U+E000",
        "\ufb33": -(2**53) + 1,
        "\u0080": [True, False, 0, -1],
        "": "empty name",
        "\r": '\b\t\n\f\r\u0000\u001f"\\/',
        "1": {"b": [], "a": {}},
        "Upper": "A" * 10,
    },
)
valid(
    "odd-text", "Names that sort by UTF-16 units, every kind of escape, integers at the limits.", odd.seal()
)

deep = Run("deep")
inner = []
for _ in range(29):
    inner = [inner]
deep.call(1, ext={"deep": inner})
valid("depth-32", "A line that is nested 32 deep.", deep.seal())


def high_envelope(made):
    """The manifest's signature in DER with the other s."""
    payload, signer = base64.b64decode(made["payload"]), key("manifest", 1, P256)
    r, s = ec.p256_sign(signer.secret, pae(PAE_STATEMENT, payload), high=True)
    return envelope(PAE_STATEMENT, payload, signer, signature=ec.der_signature(r, s))


valid(
    "p256-high-s-envelope",
    "The manifest's P-256 signature with s above n/2.",
    small(Keys(1, P256)),
    envelope=high_envelope,
)


def padded(size):
    """A hook: the entry's line gets exactly `size` bytes through ext."""

    def edit(entry):
        entry["ext"] = {"pad": ""}
        entry["ext"]["pad"] = "x" * (size - len(canonical(entry)))

    return edit


valid("line-16384", "A line of exactly 16,384 bytes.", **lined(edit={1: padded(16384)}))

many = Run("many claims", sign="checkpoint")
for number in range(17):
    many.call(number, claims={"job_id": f"job-{number}"}, total=number)
many.call(17, claims={"agent": "\uff5e", "job_id": "job-3"}, total=20)
many.call(18, claims={"agent": "\U0001f600"}, total=21)
many.call(19, claims={"agent": "Z"}, total=5)
valid(
    "many-claims",
    "More than 16 values of a claim: the 16 smallest in byte order; percentiles over 20 calls.",
    many.seal(),
)

for total, calls in (("two", 2), ("seven", 7)):
    run = Run(f"percentiles {total}", sign="checkpoint")
    for number in range(calls):
        run.call(number, total=(number * 7 % calls) * 10 + 3)
    valid(f"percentiles-{total}", f"Nearest-rank percentiles over {calls} calls.", run.seal())

several = Run("several policies")
several.call(1, policy={"hash": several.policy(2), "rule": "r", "version": "2"})
several.call(2, policy={"hash": several.policy(3)})
valid("several-policies", "Three policies judged the calls.", several.seal())

streams = Run("streams")
for number, stream in enumerate(
    (b"", b"data: x", b"\n\n\n", b"data: 1\r\rdata: 2\r\n\r\ndata: 3\n\r\n", STREAM * 5), 1
):
    call = streams.call_id(number)
    complete = not stream.endswith(b"x")
    streams.call(number, complete=complete, sse=sse(streams, call, stream, events=0))
valid("streams", "Streams of no unit, one cut unit, blank lines, CR, CRLF and LF.", streams.seal())

unusual = Run("unusual", policy=content(b"not in the bundle"))
unusual.add("gap", after=0, reason="DISK_FULL")
unusual.call(1, shadow=[{"policy": content(b"not there either"), "state": "judged", "verdict": "block"}])
unusual.policy(2)
unusual.body(b"a body that no receipt names")
valid(
    "unusual",
    "Policies of run.open and shadows that are not there, files and keys to spare, no time between entries.",
    unusual.seal(),
    listed=lambda files: files.update({"notes/empty": b""}),
    manifest=lambda made: (
        made["keys"].append(key("manifest", 9).row()),
        made["metrics"].update(snapshot_lag_bytes_max=7),
    ),
)
turned = Run("rotate manifest twice")
turned.rotate("manifest", key("manifest", 2))
turned.rotate("manifest", key("manifest", 3))
valid(
    "rotate-manifest-twice",
    "The manifest key is rotated twice.",
    turned.seal(),
    manifest=lambda made: made["keys"].append(key("manifest", 2).row()),
)

worm = {"bucket": "b", "key": "k", "mode": "compliance", "retain_until": "2033-11-21T04:00:00.000000Z"}
worm |= {"sha256": content(b"w"), "version_id": "1"}
valid(
    "manifest-optional",
    "A manifest with worm, rollback and ext, and key files as hints.",
    small(),
    manifest=setting(ext={"any": {"\u00fcber": [1]}}, rollback={"run": uuid("other")}, worm=[worm]),
    listed=lambda files: files.update({used.path: used.pem for used in small().used}),
)
