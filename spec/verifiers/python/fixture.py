"""Writes small bundles, journals and receipts for the tests. Not a writer for evidence: keys are
made from names, nonces are not random, and the curves are those of the verifier (which the tests
hold against the RFCs' own samples first)."""

import base64
import hashlib
import os
import struct
import zlib

import pef_verify as pef

ISS = "gw.example/a/1"
RUN = "01890000-0000-7000-8000-000000000001"
LATER = "01890000-0000-7000-8000-000000000002"
ENTRY, BLOB, CHECKPOINT, END = 1, 2, 3, 4


def b64(data):
    return base64.b64encode(data).decode("ascii")


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class EdSigner:
    alg = pef.ED25519

    def __init__(self, name, use):
        h = hashlib.sha512(hashlib.sha256(name.encode()).digest()).digest()
        self.use = use
        self.scalar = int.from_bytes(h[:32], "little") & (2**254 - 8) | 2**254
        self.prefix = h[32:]
        self.raw = self._times(self.scalar)
        self.spki = bytes.fromhex("302a300506032b6570032100") + self.raw
        self.kid = hashlib.sha256(self.spki).hexdigest()

    @staticmethod
    def _times(scalar):
        return pef._ed_encode(pef._ed_sum(pef._IDENTITY, pef._ed_table(pef._ED_BASE_POINT), scalar))

    def sign(self, message):
        r = int.from_bytes(hashlib.sha512(self.prefix + message).digest(), "little") % pef._L
        big_r = self._times(r)
        k = int.from_bytes(hashlib.sha512(big_r + self.raw + message).digest(), "little")
        return big_r + ((r + k * self.scalar) % pef._L).to_bytes(32, "little")

    sign_dsse = sign


class P256Signer:
    alg = pef.P256

    def __init__(self, name, use):
        self.use = use
        self.scalar = int.from_bytes(hashlib.sha256(name.encode()).digest(), "big") % pef._N
        x, y = self._times(self.scalar)
        self.spki = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200") + b"\x04"
        self.spki += x.to_bytes(32, "big") + y.to_bytes(32, "big")
        self.kid = hashlib.sha256(self.spki).hexdigest()

    @staticmethod
    def _times(scalar):
        return pef._p256_affine([pef._p256_sum((1, 1, 0), pef._p256_table(pef._P256_BASE_POINT), scalar)])[0]

    def sign(self, message):
        h = hashlib.sha256(message).digest()
        k = int.from_bytes(hashlib.sha256(self.spki + h).digest(), "big") % pef._N
        r = self._times(k)[0] % pef._N
        s = pow(k, -1, pef._N) * (int.from_bytes(h, "big") + r * self.scalar) % pef._N
        return r.to_bytes(32, "big") + min(s, pef._N - s).to_bytes(32, "big")

    def sign_dsse(self, message):
        return der(self.sign(message))


def der(raw):
    parts = b""
    for half in (raw[:32], raw[32:]):
        number = half.lstrip(b"\0")
        number = b"\0" + number if number[0] & 0x80 else number
        parts += bytes([2, len(number)]) + number
    return bytes([0x30, len(parts)]) + parts


def pae(kind, body):
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(body), body)


def envelope(signer, kind, payload):
    row = {"keyid": signer.kid, "sig": b64(signer.sign_dsse(pae(kind, payload)))}
    return pef.canonical({"payload": b64(payload), "payloadType": kind, "signatures": [row]})


def note(signer, origin, size, root, name=ISS):
    text = ("%s\n%d\n%s\n" % (origin, size, b64(root))).encode()
    key_id = hashlib.sha256(name.encode() + b"\n\x01" + signer.raw).digest()[:4]
    return text + ("\n\u2014 %s %s\n" % (name, b64(key_id + signer.sign(text)))).encode()


def pem(signer):
    return "-----BEGIN PUBLIC KEY-----\n%s\n-----END PUBLIC KEY-----\n" % b64(signer.spki)


def inclusion(leaves, index):
    """RFC 6962 section 2.1.1, PATH."""
    if len(leaves) <= 1:
        return []
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if index < k:
        return inclusion(leaves[:k], index) + [pef.tree_root(leaves[k:])]
    return inclusion(leaves[k:], index - k) + [pef.tree_root(leaves[:k])]


RECEIPT_KEY = EdSigner("receipt", "receipt")
NEXT_KEY = P256Signer("receipt 2", "receipt")
CHECKPOINT_KEY = EdSigner("checkpoint", "checkpoint")
MANIFEST_KEY = P256Signer("manifest", "manifest")
STRANGER = EdSigner("stranger", "receipt")
KEYS = (RECEIPT_KEY, NEXT_KEY, CHECKPOINT_KEY, MANIFEST_KEY)


def key_row(signer, **more):
    return dict(alg=signer.alg, kid=signer.kid, spki=b64(signer.spki), use=signer.use, **more)


def trust_document(signers=KEYS, **revoked):
    """`revoked` maps a use to an index."""
    rows = []
    for signer in signers:
        rows.append(key_row(signer, iss=ISS))
        if signer.use in revoked:
            rows[-1]["revoked_from_index"] = revoked[signer.use]
    return pef.canonical({"keys": rows, "v": "pef-trust/v0"})


POLICY = pef.canonical({"rules": []})
CONTRACT = pef.canonical({"type": "object"})


class RunWriter:
    """The entries of one run, signed."""

    def __init__(self, run=RUN, sign="each", iss=ISS):
        self.run, self.sign, self.iss = run, sign, iss
        self.lines, self.signatures, self.entries = [], [], []
        self.key = RECEIPT_KEY

    def leaves(self):
        return [pef.leaf_hash(line) for line in self.lines]

    def add(self, kind, edit=None, **members):
        seq = len(self.lines)
        entry = dict(
            v="pef/v0", kind=kind, iss=self.iss, kid=self.key.kid, run=self.run, seq=seq,
            ts="2026-11-21T04:00:%02d.000000Z" % (seq % 60), mono_us=seq * 1000, **members,
        )  # fmt: skip
        if seq:
            entry["prev"] = "leaf:" + pef.leaf_hash(self.lines[-1]).hex()
        if edit:
            edit(entry)
        return self.add_line(pef.canonical(entry), entry)

    def add_line(self, line, entry=None):
        self.lines.append(line)
        self.entries.append(entry)
        self.signatures.append(self.key.sign(pae(pef.TYPE_ENTRY, line)))
        return entry

    def open(self, **members):
        members = dict(
            {
                "class": "caller", "name": "nightly", "sign": self.sign, "durability": "group",
                "capture": {"commitment": "commit:" + "1" * 64, "id": "1" * 16}, "policy": digest(POLICY),
                "config": digest(b"config"), "build": {"name": "estoppel", "version": "0.1.0"},
            },
            **members,
        )  # fmt: skip
        return self.add("run.open", **members)

    def call(self, action="allow", complete=True, **members):
        seq = len(self.lines)
        nothing = {"bytes": 0, "skipped": 0, "state": "empty"}
        members = dict(
            {
                "attempt": 1, "body": {"mode": "none"}, "call": "01890000-0000-7000-8000-%012d" % (1000 + seq),
                "evaluated": {"request": nothing, "response": nothing}, "operation": "chat.completions",
                "outcome": {"client": "handed_over", "code": "OK", "complete": complete},
                "policy": {"hash": digest(POLICY)}, "request": {"bytes": 2, "method": "POST"},
                "response": {"client": {"bytes": 2}}, "time": {"total_us": 100 * seq + 7},
                "verdict": {"action": action, "mode": "enforce"},
            },
            **members,
        )  # fmt: skip
        return self.add("call", **members)

    def rotate(self, new=NEXT_KEY, old=None, edit=None):
        old = (old or self.key).kid
        body = {"iss": self.iss, "new": new.kid, "old": old, "run": self.run, "use": new.use}
        proof = b64(new.sign(pae(pef.TYPE_POSSESSION, pef.canonical(body))))
        entry = self.add(
            "key.rotate", edit, alg=new.alg, new=new.kid, old=old, possession=proof, spki=b64(new.spki), use=new.use
        )
        if new.use == "receipt":
            self.key = new
        return entry

    def counters(self):
        calls = [e for e in self.entries if e["kind"] == "call"]
        counters = {a: sum(e["verdict"]["action"] == a for e in calls) for a in ("allow", "repair", "hold", "block")}
        counters["calls"] = len(calls)
        counters["interrupted"] = sum(e["kind"] == "interrupted" for e in self.entries)
        counters["incomplete"] = sum(not e["outcome"]["complete"] for e in calls)
        return counters

    def seal(self, edit=None):
        return self.add(
            "run.seal", edit, count=len(self.lines), counters=self.counters(), reason="clean",
            head="leaf:" + self.leaves()[-1].hex(), root="root:" + pef.tree_root(self.leaves()).hex(),
        )  # fmt: skip


class BundleWriter:
    """The files of one bundle. Every stage can be changed between the calls."""

    def __init__(self, run, signers=KEYS):
        self.run, self.signers = run, signers
        self.files = {}
        self.externals = []
        self.manifest_signer = MANIFEST_KEY
        self.policies = [POLICY]

    def with_anchor(self, before=(b"x" * 32, b"y" * 32), after=(b"z" * 32,), signer=CHECKPOINT_KEY):
        leaves = list(before) + [self.run.leaves()[-1]] + list(after)
        path = "".join(b64(h) + "\n" for h in inclusion(leaves, len(before)))
        head = "c2sp.org/tlog-proof@v1\nindex %d\n%s\n" % (len(before), path)
        self.files["anchor.tlog-proof"] = head.encode() + note(signer, ISS, len(leaves), pef.tree_root(leaves))
        return self

    def entry_files(self):
        run, files = self.run, self.files
        files["receipts.ndjson"] = b"".join(line + b"\n" for line in run.lines)
        if run.sign == "each":
            files["receipts.sig"] = b"".join(run.signatures)
        origin = "%s/run/%s" % (ISS, run.run)
        files["checkpoint"] = note(CHECKPOINT_KEY, origin, len(run.lines), pef.tree_root(run.leaves()))
        for policy in self.policies:
            files["policy/%s.json" % hashlib.sha256(policy).hexdigest()] = policy
        for signer in self.signers:
            files["keys/%s-%s.pem" % (signer.use, signer.kid)] = pem(signer).encode()
        return self

    ROLES = {
        "receipts.ndjson": "entries", "receipts.sig": "signatures", "checkpoint": "checkpoint",
        "anchor.tlog-proof": "anchor", "policy": "policy", "contracts": "contract", "streams": "stream",
        "bodies": "body", "keys": "key",
    }  # fmt: skip

    def manifest(self):
        run = self.run
        opening, seal = run.entries[0], run.entries[-1]
        calls = [e for e in run.entries if e["kind"] == "call"]
        totals = sorted(e["time"]["total_us"] for e in calls)
        claims = {}
        for call in calls:
            for name, value in call.get("claims", {}).items():
                claims.setdefault(name, set()).add(value)
        manifest = {
            "v": "pef/v0", "run": run.run, "iss": ISS, "class": opening["class"],
            "opened": opening["ts"], "sealed": seal["ts"], "seal_reason": seal["reason"],
            "build": opening["build"], "sign": opening["sign"], "durability": opening["durability"],
            "tree": {"root": "root:" + pef.tree_root(run.leaves()).hex(), "size": len(run.lines)},
            "counters": seal["counters"],
            "claims": {k: sorted(v, key=str.encode)[:16] for k, v in claims.items()},
            "policies": sorted({opening["policy"]} | {e["policy"]["hash"] for e in calls}),
            "keys": [key_row(signer) for signer in self.signers],
            "externals": self.externals,
            "files": [
                {
                    "bytes": len(data), "path": path, "sha256": digest(data),
                    "role": self.ROLES.get(path.split("/")[0], "other"),
                }
                for path, data in sorted(self.files.items())
            ],
        }  # fmt: skip
        if "name" in opening:
            manifest["name"] = opening["name"]
        if totals:
            rank = {p: totals[(p * len(totals) + 99) // 100 - 1] for p in (50, 95, 99)}
            manifest["metrics"] = {"total_p%d_us" % p: v for p, v in rank.items()}
        return manifest

    def close(self, manifest=None, edit_statement=None):
        """-> {path: bytes}, complete."""
        manifest = manifest or self.manifest()
        files = dict(self.files)
        files["manifest.json"] = pef.canonical(manifest)
        subjects = [{"digest": {"sha256": hashlib.sha256(d).hexdigest()}, "name": n} for n, d in sorted(files.items())]
        statement = {
            "_type": "https://in-toto.io/Statement/v1", "predicateType": "urn:estoppel:pef:manifest:v0",
            "predicate": dict(manifest["tree"], run=manifest["run"], v="pef/v0"), "subject": subjects,
        }  # fmt: skip
        if edit_statement:
            edit_statement(statement)
        files["manifest.dsse.json"] = envelope(self.manifest_signer, pef.TYPE_STATEMENT, pef.canonical(statement))
        return with_sums(files)


def with_sums(files):
    files = {name: data for name, data in files.items() if name != "SHA256SUMS"}
    rows = ["%s  %s\n" % (hashlib.sha256(files[name]).hexdigest(), name) for name in sorted(files)]
    return dict(files, SHA256SUMS="".join(rows).encode())


def zip_bytes(files):
    """`files`: a dict, or a list of pairs to keep an order."""
    rows = sorted(files.items()) if isinstance(files, dict) else files
    out, central = bytearray(), bytearray()
    for name, data in rows:
        name, crc, size = name.encode(), zlib.crc32(data), len(data)
        common = struct.pack("<HHHHHIIIH", 10, 0, 0, 0, 0x21, crc, size, size, len(name)) + b"\0\0"
        central += struct.pack("<IH", 0x02014B50, 0x0314) + common + struct.pack("<HHHII", 0, 0, 0, 0x81A40000, len(out)) + name
        out += struct.pack("<I", 0x04034B50) + common + name + data
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, len(rows), len(rows), len(central), len(out), 0)
    return bytes(out + central + end)


def write_folder(folder, files):
    for name, data in files.items():
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)


def small_run(sign="each"):
    run = RunWriter(sign=sign)
    run.open()
    run.call(claims={"agent": "crawler"})
    run.seal()
    return run


def small_bundle(sign="each"):
    signers = (RECEIPT_KEY, CHECKPOINT_KEY, MANIFEST_KEY)
    return BundleWriter(small_run(sign), signers).entry_files()


BODY = b'{"model":"m"}'
FAR_BODY = b"far " * 50


def large_bundle():
    """One of everything."""
    run = RunWriter()
    run.open(contracts=[digest(CONTRACT)])
    run.add("intent", call="01890000-0000-7000-8000-000000000009", policy=digest(POLICY))
    run.call(claims={"agent": "b", "job_id": "\u00e9"}, request={"bytes": 13, "method": "POST", "sha256": digest(BODY)})
    run.call("block", False, claims={"agent": "a\U0001f600"}, ext={"Any": {"\ufb33": 1, "\U0001f600": 2}})
    run.add("interrupted", call="01890000-0000-7000-8000-000000000009", reason="CLIENT_GONE")
    units = [hashlib.sha256(b"unit %d" % i).digest() for i in range(5)]
    nodes = b"".join(units)
    run.call(
        sse={"events": 5, "units": 5, "level": 0, "nodes": digest(nodes), "root": "root:" + pef.tree_root(units).hex()}
    )
    stream = "streams/%s.nodes" % run.entries[-1]["call"]
    run.rotate()
    run.call("hold", response={"client": {"bytes": len(FAR_BODY), "sha256": digest(FAR_BODY)}})
    run.add("policy.load", state="refused", reason="POLICY_INVALID")
    run.add("gap", reason="DISK_FULL")
    run.call("repair")
    run.seal()
    bundle = BundleWriter(run).entry_files().with_anchor()
    bundle.files[stream] = nodes
    bundle.files["bodies/" + hashlib.sha256(BODY).hexdigest()] = BODY
    bundle.files["contracts/%s.json" % hashlib.sha256(CONTRACT).hexdigest()] = CONTRACT
    bundle.externals.append({"bytes": len(FAR_BODY), "role": "body", "sha256": digest(FAR_BODY)})
    return bundle


def frame(kind, index, payload):
    head = struct.pack("<IBQ", len(payload), kind, index)
    return head + struct.pack("<I", zlib.crc32(head + payload)) + payload


class JournalWriter:
    def __init__(self, iss=ISS):
        self.iss = iss
        self.segments = []
        self.leaves = []
        self.begin()

    def begin(self):
        prev = self.leaves[-1] if self.leaves else bytes(32)
        name = self.iss.encode()
        header = struct.pack("<8sQ32sH202s", b"PEFSEG0\n", len(self.leaves), prev, len(name), name)
        self.segments.append(["%020d.seg" % len(self.leaves), header + struct.pack("<I", zlib.crc32(header))])

    def raw(self, data):
        self.segments[-1][1] += data

    def frame(self, kind, payload, index=None):
        self.raw(frame(kind, len(self.leaves) if index is None else index, payload))

    def entry(self, run, position=-1, signature=None):
        if signature is None:
            signature = run.signatures[position] if run.sign == "each" else b""
        line = run.lines[position]
        self.frame(ENTRY, bytes([len(signature)]) + signature + line)
        self.leaves.append(pef.leaf_hash(line))

    def blob(self, content):
        self.frame(BLOB, hashlib.sha256(content).digest() + content)

    def note(self, size=None, signer=CHECKPOINT_KEY):
        size = len(self.leaves) if size is None else size
        return note(signer, self.iss, size, pef.tree_root(self.leaves[:size]))

    def checkpoint(self):
        self.frame(CHECKPOINT, self.note())

    def end(self):
        self.frame(END, b"\0")

    def files(self, checkpoint=True, trust=None):
        files = {"segments/" + name: data for name, data in self.segments}
        if checkpoint:
            files["checkpoint"] = self.note() if checkpoint is True else checkpoint
        files["trust.json"] = trust or trust_document()
        return files


def small_journal(padding=0, checkpoint_at_end=True):
    """Two runs interleaved over two segments; one run stays open."""
    journal = JournalWriter()
    own = RunWriter(sign="checkpoint", run=LATER)
    run = RunWriter()
    own.open(**{"class": "instance"})
    journal.entry(own)
    run.open()
    journal.entry(run)
    journal.checkpoint()
    nodes = hashlib.sha256(b"unit").digest()
    root = "root:" + nodes.hex()
    run.call(sse={"events": 1, "units": 1, "level": 0, "nodes": digest(nodes), "root": root})
    journal.blob(nodes)
    journal.entry(run)
    journal.end()
    journal.begin()
    run.seal()
    journal.entry(run)
    own.add("policy.load", state="active", policy=digest(POLICY))
    journal.entry(own)
    if checkpoint_at_end:
        journal.checkpoint()
    journal.raw(bytes(padding))
    return journal
