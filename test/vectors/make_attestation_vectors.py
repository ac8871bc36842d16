"""Makes spec/attestation-vectors out of statements that `estoppel attest` wrote once.

    python3 test/vectors/make_attestation_vectors.py FOLDER

FOLDER has `one` (framework.toml with the trust document), `two` (mapping.toml) and `three` (framework.toml without it), by the
key of SEED. Published vectors never change: this adds those that are not there.
"""

import base64
import hashlib
import json
import pathlib
import sys

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SEED = b"estoppel test vector attestation key"
ROOT = pathlib.Path(__file__).resolve().parents[2]
VECTORS = ROOT / "spec" / "attestation-vectors"
TYPE = "application/vnd.in-toto+json"
PEF = "../../pef/vectors/valid-trust/"


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def key_of(seed):
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(seed).digest())


def spki_of(key):
    public = key.public_key()
    return public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def envelope(payload, key, kid=None):
    signed = b"DSSEv1 %d %s %d %s" % (len(TYPE), TYPE.encode(), len(payload), payload)
    row = {
        "keyid": kid or hashlib.sha256(spki_of(key)).hexdigest(),
        "sig": base64.b64encode(key.sign(signed)).decode(),
    }
    document = {"payload": base64.b64encode(payload).decode(), "payloadType": TYPE, "signatures": [row]}
    return canonical(document)


def main(folder):
    key, other = key_of(SEED), key_of(b"estoppel test vector stranger")
    made = {name: (pathlib.Path(folder) / name / "attestation.json").read_bytes() for name in ("one", "two", "three")}
    statement = {
        name: json.loads(base64.b64decode(json.loads(bytes_)["payload"])) for name, bytes_ in made.items()
    }

    def changed(name, *path_and_value):
        copy = json.loads(json.dumps(statement[name]))
        *path, last, value = path_and_value
        place = copy
        for step in path:
            place = place[step]
        if value is None:
            del place[last]
        else:
            place[last] = value
        return copy

    def signed(document):
        return envelope(canonical(document), key)

    predicate = "predicate"
    mismatch = "ATTESTATION_MISMATCH"
    stranger = {
        "alg": "ed25519",
        "kid": hashlib.sha256(spki_of(other)).hexdigest(),
        "spki": base64.b64encode(spki_of(other)).decode(),
    }
    broken = bytearray(made["one"])
    broken[-10] ^= 1
    spaced = envelope(json.dumps(statement["one"], sort_keys=True).encode(), key)
    cases = [
        ("valid-assessment", "An assessment as it was made.", made["one"], None, {}),
        ("valid-mapping", "A mapping as it was made.", made["two"], None, {"framework": "../mapping.toml"}),
        ("valid-signer", "By the key that the reader expects.", made["one"], None,
         {"signer": base64.b64encode(spki_of(key)).decode()}),
        ("signer-other", "By another key than the reader expects.", made["one"], "ATTESTATION_UNTRUSTED",
         {"signer": stranger["spki"]}),
        ("signature-changed", "A character of the signature is another.", bytes(broken), "ATTESTATION_FORM", {}),
        ("payload-not-canonical", "The payload has spaces.", spaced, "ATTESTATION_FORM", {}),
        ("key-not-the-signers", "It states a key that did not sign.", signed(changed("one", predicate, "key", stranger)),
         "ATTESTATION_FORM", {}),
        ("result-raised", "A control that fails is said to pass.",
         signed(changed("one", predicate, "controls", 1, "result", "pass")), mismatch, {}),
        ("count-lowered", "Fewer controls are said to fail.",
         signed(changed("one", predicate, "counts", "fail", 1)), mismatch, {}),
        ("pointer-changed", "A digest of the evidence is another.",
         signed(changed("one", predicate, "evidence", 0, "listed", 0, "leaf:" + "0" * 64)), mismatch, {}),
        ("mapping-with-result", "A mapping says pass.",
         signed(changed("two", predicate, "controls", 0, "result", "pass")), mismatch, {"framework": "../mapping.toml"}),
        ("control-left-out", "A control is left out.", signed(changed("one", predicate, "controls", 1, None)), mismatch, {}),
        ("trust-other", "It was made without the trust document.", made["three"], mismatch, {}),
        ("framework-other", "It is about another framework.", made["two"], mismatch, {}),
        ("subject-other", "Its subject is another archive.",
         signed(changed("one", "subject", 0, "digest", "sha256", "0" * 64)), mismatch, {}),
    ]  # fmt: skip
    for name, about, attestation, reason, more in cases:
        place = VECTORS / name
        if place.exists():
            continue
        place.mkdir()
        expect = {
            "about": about, "bundle": PEF + "bundle.pef.zip", "framework": "../framework.toml", "reason": reason,
            "trust": PEF + "trust.json", **more,
        }  # fmt: skip
        (place / "attestation.json").write_bytes(attestation)
        (place / "expect.json").write_text(json.dumps(expect, indent=1, sort_keys=True) + "\n")
    files = sorted(path for path in VECTORS.rglob("*") if path.is_file() and path.name != "vectors.lock")
    lock = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(VECTORS)}\n" for path in files]
    (VECTORS / "vectors.lock").write_text("".join(lock))


if __name__ == "__main__":
    main(sys.argv[1])
