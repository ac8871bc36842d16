"""The parts of PEF, from SPEC.md alone: canonical JSON, hashes, keys, envelopes, notes, trees, ZIP."""

import base64
import functools
import hashlib
import hmac
import json
import struct
import zlib

import ec

PAE_ENTRY = "application/vnd.estoppel.pef.entry.v0+json"
PAE_STATEMENT = "application/vnd.in-toto+json"
PAE_POSSESSION = "application/vnd.estoppel.pef.possession.v0+json"
PAE_APPROVAL = "application/vnd.estoppel.pef.approval.v0+json"
ED25519, P256 = "ed25519", "ecdsa-p256-sha256"
ED25519_SPKI = bytes.fromhex("302a300506032b6570032100")
P256_SPKI = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200")


def canonical(value):
    """RFC 8785 for what evidence holds: objects, arrays, strings, integers and booleans."""
    if isinstance(value, dict):
        members = sorted(value.items(), key=lambda member: member[0].encode("utf-16-be", "surrogatepass"))
        return b"{" + b",".join(canonical(name) + b":" + canonical(item) for name, item in members) + b"}"
    if isinstance(value, (list, tuple)):
        return b"[" + b",".join(canonical(item) for item in value) + b"]"
    return json.dumps(value, ensure_ascii=False).encode()


def sha(data):
    return hashlib.sha256(data).digest()


def sha_hex(data):
    return hashlib.sha256(data).hexdigest()


def content(data):
    return "sha256:" + sha_hex(data)


def leaf(line):
    return sha(b"\0" + line)


def root(hashes):
    """RFC 6962, section 2.1, over leaf hashes."""
    if not hashes:
        return sha(b"")
    if len(hashes) == 1:
        return hashes[0]
    split = 1 << (len(hashes) - 1).bit_length() - 1
    return sha(b"\1" + root(hashes[:split]) + root(hashes[split:]))


def inclusion(hashes, index):
    """RFC 6962, section 2.1.1: the path of leaf `index`, from the leaf upwards."""
    if len(hashes) == 1:
        return []
    split = 1 << (len(hashes) - 1).bit_length() - 1
    if index < split:
        return inclusion(hashes[:split], index) + [root(hashes[split:])]
    return inclusion(hashes[split:], index - split) + [root(hashes[:split])]


def b64(data):
    return base64.b64encode(data).decode()


def pae(kind, body):
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(body), body)


class Key:
    """One signing key, made from its name."""

    def __init__(self, name, use, alg=ED25519, seed=None):
        self.name, self.use, self.alg, self.signed = name, use, alg, {}
        self.seed = seed or sha(b"estoppel test vector key: " + name.encode())
        if alg == ED25519:
            self.public = ec.ed_public(self.seed)
            self.spki = ED25519_SPKI + self.public
        else:
            self.secret = ec.p256_secret(self.seed)
            self.spki = P256_SPKI + b"\4" + b"".join(ec.p256_public(self.secret))
        self.kid = sha_hex(self.spki)

    def sign(self, message):
        """The 64 bytes of section 3."""
        if message not in self.signed:
            self.signed[message] = self.make_signature(message)
        return self.signed[message]

    def make_signature(self, message):
        if self.alg == ED25519:
            return ec.ed_sign(self.seed, message)
        r, s = ec.p256_sign(self.secret, message)
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def sign_dsse(self, message):
        """The form inside an envelope."""
        signature = self.sign(message)
        if self.alg == ED25519:
            return signature
        return ec.der_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))

    def row(self, **more):
        return {"alg": self.alg, "kid": self.kid, "spki": b64(self.spki), "use": self.use, **more}

    @property
    def pem(self):
        text = b64(self.spki)
        lines = [text[at : at + 64] for at in range(0, len(text), 64)]
        return "\n".join(["-----BEGIN PUBLIC KEY-----", *lines, "-----END PUBLIC KEY-----", ""]).encode()

    @property
    def path(self):
        return f"keys/{self.use}-{self.kid}.pem"


@functools.cache
def key(use, number=1, alg=ED25519):
    return Key(f"{use} {number} {alg}", use, alg)


def envelope(kind, payload, signer, *, keyid=None, signature=None):
    signature = signer.sign_dsse(pae(kind, payload)) if signature is None else signature
    return {
        "payload": b64(payload),
        "payloadType": kind,
        "signatures": [{"keyid": keyid or signer.kid, "sig": b64(signature)}],
    }


def note(origin, size, tree_root, signer, name, *, text=None, signed=None, key_id=None, signature=None):
    """A checkpoint note; the keyword arguments replace single parts of it."""
    text = text if text is not None else f"{origin}\n{size}\n{b64(tree_root)}\n".encode()
    key_id = key_id or sha(name.encode() + b"\n\1" + signer.spki[-32:])[:4]
    signature = signature or signer.sign(text if signed is None else signed)
    return text + b"\n" + f"\u2014 {name} {b64(key_id + signature)}\n".encode()


def proof(index, path, checkpoint):
    """A C2SP tlog-proof."""
    lines = ["c2sp.org/tlog-proof@v1", f"index {index}", *map(b64, path), "", ""]
    return "\n".join(lines).encode() + checkpoint


def sums(files):
    """SHA256SUMS for everything in `files` but itself."""
    paths = sorted((path for path in files if path != "SHA256SUMS"), key=str.encode)
    return "".join(f"{sha_hex(files[path])}  {path}\n" for path in paths).encode()


def trust(*rows):
    return canonical({"keys": list(rows), "v": "pef-trust/v0"})


# --- Keyed capture (section 6) and streams (section 7) ---


class Capture:
    def __init__(self, run):
        ikm = sha(b"estoppel test vector capture key")
        prk = hmac.digest(uuid_bytes(run), ikm, "sha256")
        self.key = hmac.digest(prk, b"pef/v0/capture\1", "sha256")
        self.commitment = sha(b"pef/v0/capture-key\0" + self.key)
        self.id = self.commitment.hex()[:16]

    def member(self):
        return {"commitment": "commit:" + self.commitment.hex(), "id": self.id}

    def tag(self, label, data):
        return (
            f"hmac-sha256:{self.id}:"
            + hmac.digest(self.key, label.encode() + b"\0" + sha(data), "sha256").hex()
        )

    def call_key(self, call):
        return hmac.digest(self.key, b"pef/v0/call-key\0" + uuid_bytes(call), "sha256")

    def events_key(self, call):
        return hmac.digest(self.call_key(call), b"pef/v0/sse-events", "sha256")

    def commit(self, label, data, call):
        return (
            "commit:" + hmac.digest(self.call_key(call), label.encode() + b"\0" + sha(data), "sha256").hex()
        )


def uuid(label):
    digest = sha(b"estoppel test vector uuid: " + label.encode()).hex()
    return f"{digest[:8]}-{digest[8:12]}-4{digest[13:16]}-a{digest[17:20]}-{digest[20:32]}"


def uuid_bytes(text):
    return bytes.fromhex(text.replace("-", ""))


def units(stream):
    """Cuts a text/event-stream body into units: each ends just after the line end of a blank line."""
    line_start = 3 if stream.startswith(b"\xef\xbb\xbf") else 0
    found, start, at = [], 0, line_start
    while at < len(stream):
        if stream[at : at + 1] == b"\n" and at > 0 and stream[at - 1 : at] == b"\r":
            line_start = at = at + 1  # The second half of CRLF: the line ended at the CR.
            continue
        if stream[at : at + 1] in (b"\r", b"\n"):
            if at == line_start:
                found.append(stream[start : at + 1])
                start = at + 1
            line_start = at + 1
        at += 1
    return found + ([stream[start:]] if start < len(stream) else [])


def stream_nodes(capture, call, parts):
    """The leaf hashes of a stream, which are its nodes at level 0."""
    return [sha(b"\0" + capture.events_key(call) + part) for part in parts]


def disclosure(key, scope, run, call=None):
    """A disclosed key (section 16)."""
    named = {} if call is None else {"call": call}
    return canonical({"key": key.hex(), "run": run, "scope": scope, "v": "pef-disclosure/v0"} | named)


# --- ZIP (section 9) ---


class ZipEntry:
    """One entry with every field of its headers; `central` holds what the central one says otherwise."""

    def __init__(self, name, data):
        self.name, self.data = name if isinstance(name, bytes) else name.encode(), data
        self.version, self.flags, self.method, self.time, self.date = 10, 0, 0, 0, 0x21
        self.crc, self.packed, self.size, self.extra = zlib.crc32(data), len(data), len(data), b""
        self.trailer, self.comment, self.made_by, self.external = b"", b"", 0x0314, 0x81A40000
        self.central = {}

    def _common(self, get):
        fields = ("version", "flags", "method", "time", "date", "crc", "packed", "size")
        return struct.pack("<HHHHHIII", *map(get, fields))

    def local_bytes(self):
        lengths = struct.pack("<HH", len(self.name), len(self.extra))
        head = b"PK\3\4" + self._common(lambda field: getattr(self, field)) + lengths
        return head + self.name + self.extra + self.data + self.trailer

    def central_bytes(self, offset):
        def get(field):
            return self.central.get(field, getattr(self, field))

        name, extra, comment = get("name"), self.central.get("extra", b""), self.comment
        lengths = struct.pack("<HHHHHII", len(name), len(extra), len(comment), 0, 0, get("external"), offset)
        return (
            b"PK\1\2"
            + struct.pack("<H", get("made_by"))
            + self._common(get)
            + lengths
            + name
            + extra
            + comment
        )


def zip_entries(files):
    return [ZipEntry(path, files[path]) for path in sorted(files, key=str.encode)]


def zip_bytes(entries, comment=b""):
    local, central = b"", b""
    for entry in entries:
        central += entry.central_bytes(len(local))
        local += entry.local_bytes()
    end = struct.pack("<HHHHIIH", 0, 0, len(entries), len(entries), len(central), len(local), len(comment))
    return local + central + b"PK\5\6" + end + comment
