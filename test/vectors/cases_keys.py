"""Classes wrong-key and renamed-algorithm: untrusted keys, and labels that lie about keys."""

from pef import ED25519, ED25519_SPKI, P256, P256_SPKI, Key, canonical, key, sha_hex, trust
from run import ISS, Bundle, Keys, Run
from tools import lined, setting, tiny
from vector import failed, unusable, vector

ROWS = Keys().rows()
ANCHOR = {"before": 3, "after": 2}


def wrong(name, about, step, reason, rows, *, run=None, anchor=None, directory=False):
    answer = failed(step, reason, anchored=anchor is not None)
    made = Bundle(run or tiny(sign="each"), anchor=anchor)
    vector(f"wrong-key-{name}", about, answer, made, trust=trust(*rows), directory=directory)


def but(use, *others):
    """The trust document's rows without that use, and with others."""
    return [row for row in ROWS if row["use"] != use] + list(others)


def altered(use, **members):
    return [row | members if row["use"] == use else row for row in ROWS]


wrong(
    "all", "The trust document lists other keys of the same instance.", "K1", "KEY_UNTRUSTED", Keys(5).rows()
)
wrong("directory", "The same for a directory.", "K1", "KEY_UNTRUSTED", Keys(5).rows(), directory=True)
for use in ("receipt", "manifest", "checkpoint"):
    wrong(
        f"no-{use}",
        f"The trust document lists another {use} key.",
        "K1",
        "KEY_UNTRUSTED",
        but(use, key(use, 5).row(iss=ISS)),
    )
    wrong(
        f"{use}-of-other-instance",
        f"The trust document lists the {use} key for another instance.",
        "K1",
        "KEY_UNTRUSTED",
        altered(use, iss="gw.example.org/main/2"),
    )
    wrong(
        f"{use}-revoked",
        f"The {use} key is revoked, and the bundle is not anchored.",
        "K2",
        "KEY_REVOKED",
        altered(use, revoked_from_index=1_000_000),
    )
    wrong(
        f"{use}-revoked-before",
        f"The {use} key was revoked from an index before the seal's.",
        "K2",
        "KEY_REVOKED",
        altered(use, revoked_from_index=2),
        anchor=ANCHOR,
    )
wrong(
    "revoked-at",
    "The receipt key was revoked from the seal's own index.",
    "K2",
    "KEY_REVOKED",
    altered("receipt", revoked_from_index=4),
    anchor=ANCHOR,
)
wrong(
    "other-use",
    "The trust document lists the manifest key with the use receipt.",
    "K1",
    "KEY_UNTRUSTED",
    but("manifest", key("manifest").row(iss=ISS) | {"use": "receipt"}),
)
run = Run("rotation of stranger", Keys(5))
run.rotate("receipt", key("receipt"))
wrong(
    "rotation-by-stranger",
    "A key that is not trusted brings in one that is.",
    "K1",
    "KEY_UNTRUSTED",
    ROWS + [key("manifest", 5).row(iss=ISS), key("checkpoint", 5).row(iss=ISS)],
    run=run.seal(),
)

run = Run("rotation revoked")
run.rotate("receipt", key("receipt", 2))
wrong(
    "rotated-revoked",
    "The key that a rotation brought in is revoked.",
    "K2",
    "KEY_REVOKED",
    [*ROWS, key("receipt", 2).row(iss=ISS, revoked_from_index=0)],
    run=run.seal(),
)

# --- Trust documents that cannot be used: exit code 6 ---


def invalid(name, about, document, group="wrong-key-trust"):
    vector(f"{group}-{name}", f"The trust document {about}.", unusable(), Bundle(tiny()), trust=document)


invalid("space", "is not canonical", trust(*ROWS).replace(b":", b": "))
invalid("not-json", "is cut off", trust(*ROWS)[:-1])
invalid("no-keys", "lists no key", trust())
invalid("version", "is of another version", canonical({"keys": ROWS, "v": "pef-trust/v1"}))
invalid("unknown-member", "has an unknown member in a key", trust(*altered("receipt", name="main")))
invalid("key-twice", "lists a key twice", trust(*ROWS, ROWS[0]))
invalid("key-id", "has a key whose id is not the hash of its SPKI", trust(*altered("receipt", kid="0" * 64)))
invalid(
    "algorithm",
    "has a key whose algorithm is not that of its SPKI",
    trust(*altered("receipt", alg=P256)),
    group="renamed-algorithm-trust",
)

# --- renamed-algorithm ---


def renamed(name, about, step, reason, seq=None, **bundle):
    vector(f"renamed-algorithm-{name}", about, failed(step, reason, seq), Bundle(**{"run": tiny(), **bundle}))


class Odd(Key):
    """A key whose SPKI has another form."""

    def __init__(self, use, spki, alg=ED25519):
        super().__init__("odd", use, alg)
        self.spki, self.kid = spki, sha_hex(spki)


def listed(row):
    return lambda made: made["keys"].append(row)


def relabelled(use, alg):
    def hook(made):
        for row in made["keys"]:
            if row["use"] == use:
                row["alg"] = alg

    return hook


P256_KEYS = Keys(1, P256)
renamed(
    "ed25519-as-p256",
    "An Ed25519 receipt key is listed as P-256.",
    "M4",
    "ALGORITHM_MISMATCH",
    manifest=relabelled("receipt", P256),
)
renamed(
    "p256-as-ed25519",
    "A P-256 receipt key is listed as Ed25519.",
    "M4",
    "ALGORITHM_MISMATCH",
    run=tiny(P256_KEYS),
    manifest=relabelled("receipt", ED25519),
)
renamed(
    "manifest-key",
    "An Ed25519 manifest key is listed as P-256.",
    "M4",
    "ALGORITHM_MISMATCH",
    manifest=relabelled("manifest", P256),
)
renamed(
    "checkpoint-p256",
    "A P-256 key is listed for checkpoints.",
    "M4",
    "ALGORITHM_MISMATCH",
    manifest=listed(Key("checkpoint p256", "checkpoint", P256).row()),
)
renamed(
    "unknown",
    "A key is listed with an algorithm that the format does not know.",
    "M2",
    "MANIFEST_SCHEMA",
    manifest=relabelled("receipt", "rsa-pss-sha256"),
)
renamed(
    "none",
    "A key is listed with the algorithm none.",
    "M2",
    "MANIFEST_SCHEMA",
    manifest=relabelled("manifest", "none"),
)
EDKEY, PKEY = key("receipt", 9), key("receipt", 9, P256)
for case, about, spki, alg in (
    (
        "ed448-oid",
        "Ed448's OID before 32 bytes",
        ED25519_SPKI.replace(b"\x2b\x65\x70", b"\x2b\x65\x71") + EDKEY.public,
        ED25519,
    ),
    (
        "x25519-oid",
        "X25519's OID",
        ED25519_SPKI.replace(b"\x2b\x65\x70", b"\x2b\x65\x6e") + EDKEY.public,
        ED25519,
    ),
    ("raw", "no SPKI around its 32 bytes", EDKEY.public, ED25519),
    ("trailing-byte", "a byte after its SPKI", EDKEY.spki + b"\0", ED25519),
    (
        "null-parameters",
        "NULL parameters after Ed25519's OID",
        bytes.fromhex("302c300706032b65700500032100") + EDKEY.public,
        ED25519,
    ),
    (
        "p256-compressed",
        "a compressed P-256 point",
        bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200")
        + bytes([2 + PKEY.spki[-1] % 2])
        + PKEY.spki[27:59],
        P256,
    ),
    (
        "p256-hybrid",
        "a hybrid P-256 point",
        P256_SPKI + bytes([6 + PKEY.spki[-1] % 2]) + PKEY.spki[27:],
        P256,
    ),
    (
        "p256-other-curve",
        "the OID of another curve",
        P256_SPKI.replace(bytes.fromhex("2a8648ce3d030107"), bytes.fromhex("2a8648ce3d030106"))
        + PKEY.spki[26:],
        P256,
    ),
):
    renamed(
        f"spki-{case}",
        f"A further key in the manifest has {about}.",
        "M4",
        "ALGORITHM_MISMATCH",
        manifest=listed(Odd("receipt", spki, alg).row()),
    )
for case, about, change in (
    ("digest-prefix", "a config digest with the prefix sha512", setting(config="sha512:" + "0" * 64)),
    ("digest-dash", "a config digest with the prefix sha-256", setting(config="sha-256:" + "0" * 64)),
    ("digest-no-prefix", "a config digest without prefix", setting(config="0" * 64)),
    ("digest-length", "a config digest of 20 bytes", setting(config="sha256:" + "0" * 40)),
):
    renamed(case, f"run.open has {about}.", "L4", "LINE_SCHEMA", 0, **lined(tiny(), edit={0: change}))
renamed(
    "prev-as-sha256",
    "A seal's prev has the prefix of file digests.",
    "L4",
    "LINE_SCHEMA",
    1,
    **lined(tiny(), edit={1: lambda entry: entry.update(prev=entry["prev"].replace("leaf:", "sha256:"))}),
)
run = Run("rotation renamed")
run.rotate("receipt", key("receipt", 2), alg="ed448")
renamed(
    "rotation",
    "key.rotate names an algorithm that the format does not know.",
    "L4",
    "LINE_SCHEMA",
    1,
    run=run.seal(),
)
