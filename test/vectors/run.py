"""A run, its entries, and the bundle that seals it.

Every stage has a hook: a vector breaks one thing, and everything after it is made around the break.
"""

import copy
import datetime

from pef import (
    ED25519,
    PAE_ENTRY,
    PAE_POSSESSION,
    PAE_STATEMENT,
    Capture,
    b64,
    canonical,
    content,
    envelope,
    inclusion,
    key,
    leaf,
    note,
    pae,
    proof,
    root,
    sha,
    sha_hex,
    sums,
    uuid,
    zip_bytes,
    zip_entries,
)

ISS = "gw.example.org/main/1"
START = datetime.datetime(2026, 11, 21, 4, 0, 0)
POLICY = canonical({"name": "vectors", "rules": [], "v": "policy/v0"})
BUILD = {"name": "estoppel-vectors", "version": "0.0.0"}
ACTIONS = ("allow", "repair", "hold", "block")


def stamp(micros):
    return (START + datetime.timedelta(microseconds=micros)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Keys:
    """The three keys of an instance."""

    def __init__(self, number=1, alg=ED25519):
        self.receipt, self.manifest = key("receipt", number, alg), key("manifest", number, alg)
        self.checkpoint = key("checkpoint", number)

    def rows(self, iss=ISS):
        return [each.row(iss=iss) for each in (self.receipt, self.manifest, self.checkpoint)]


class Run:
    """What one run records, before it becomes lines."""

    def __init__(
        self, label, keys=None, *, iss=ISS, sign="each", klass="caller", durability="group", **open_members
    ):
        self.label, self.keys, self.iss, self.sign = label, keys or Keys(), iss, sign
        self.id = uuid("run " + label)
        self.capture = Capture(self.id)
        self.policies = {content(POLICY): POLICY}
        self.contracts = {}
        self.bodies, self.streams, self.externals = {}, {}, {}
        self.clock, self.start = 0, 0
        self.current = self.keys.receipt
        self.used = [self.keys.receipt, self.keys.manifest, self.keys.checkpoint]
        self.steps = []
        members = {
            "build": BUILD,
            "capture": self.capture.member(),
            "class": klass,
            "config": content(b"config"),
            "durability": durability,
            "policy": content(POLICY),
            "sign": sign,
        }
        self.add("run.open", after=0, **{**members, **open_members})

    def add(self, kind, *, after=1500, **members):
        """Appends an entry; `kid`, `seq` and `prev` come when the lines are made."""
        self.clock += after
        entry = {"iss": self.iss, "kind": kind, "run": self.id, "v": "pef/v0"}
        entry |= {"mono_us": self.clock, "ts": stamp(self.start + self.clock)}
        self.steps.append((entry | members, self.current))
        return entry["ts"]

    def call_id(self, number):
        return uuid(f"call {self.label} {number}")

    def call(self, number=1, *, action="allow", total=1000, complete=True, after=1500, **members):
        """A `call` with the least that the schema asks for."""
        least = {
            "attempt": 1,
            "body": {"mode": "none"},
            "call": self.call_id(number),
            "evaluated": {
                side: {"bytes": 0, "skipped": 0, "state": "empty"} for side in ("request", "response")
            },
            "operation": "http.get",
            "outcome": {"client": "handed_over", "code": "OK", "complete": complete},
            "policy": {"hash": content(POLICY)},
            "request": {"bytes": 0, "method": "GET"},
            "response": {"client": {"bytes": 0, "status": 204}},
            "time": {"total_us": total},
            "verdict": {"action": action, "mode": "enforce"},
        }
        return self.add("call", after=after, **{**least, **members})

    def rotate(self, use, new, *, old=None, possession=None, **members):
        old = (
            old
            or {"receipt": self.current, "manifest": self.keys.manifest, "checkpoint": self.keys.checkpoint}[
                use
            ]
        )
        statement = {"iss": self.iss, "new": new.kid, "old": old.kid, "run": self.id, "use": use}
        possession = possession or new.sign(pae(PAE_POSSESSION, canonical(statement)))
        stated = {
            "alg": new.alg,
            "new": new.kid,
            "old": old.kid,
            "possession": b64(possession),
            "spki": b64(new.spki),
        }
        self.add("key.rotate", **{**stated, "use": use, **members})
        if use == "receipt":
            self.current = new
            self.used.append(new)
        else:  # What these sign comes after the last entry: the old key signs nothing of this run.
            setattr(self.keys, use, new)
            self.used[{"manifest": 1, "checkpoint": 2}[use]] = new

    def seal(self, reason="clean", **members):
        self.add("run.seal", reason=reason, **members)
        return self

    def policy(self, number):
        """One more policy document; gives its hash."""
        document = canonical({"name": f"vectors {number}", "rules": [], "v": "policy/v0"})
        self.policies[content(document)] = document
        return content(document)

    def body(self, data):
        self.bodies[sha_hex(data)] = data
        return content(data)


class Lines:
    """The run as signed lines.

    `edit` changes members, `raw` bytes, both before what follows is computed; `signer` and `sig`
    change single signatures. All of these are by position; `pae_type` is for all signatures."""

    def __init__(self, run, *, edit=None, raw=None, signer=None, sig=None, pae_type=PAE_ENTRY):
        self.entries, self.lines, self.sigs = [], [], []
        for seq, (members, current) in enumerate(run.steps):
            entry = copy.deepcopy(members) | {"kid": current.kid, "seq": seq}
            if seq:
                entry["prev"] = "leaf:" + leaf(self.lines[-1]).hex()
            if entry["kind"] == "run.seal":
                entry = self.sealed(entry)
            if seq in (edit or {}):
                edit[seq](entry)
            line = canonical(entry)
            if seq in (raw or {}):
                line = raw[seq](line)
            signature = (signer or {}).get(seq, current).sign(pae(pae_type, line))
            self.entries.append(entry)
            self.lines.append(line)
            self.sigs.append(sig[seq](signature) if seq in (sig or {}) else signature)

    def sealed(self, entry):
        return {
            "count": len(self.lines),
            "counters": counters(self.entries),
            "head": "leaf:" + leaf(self.lines[-1]).hex() if self.lines else "leaf:" + "0" * 64,
            "root": self.root(),
        } | entry

    def hashes(self):
        return [leaf(line) for line in self.lines]

    def root(self):
        return "root:" + root(self.hashes()).hex()

    def text(self):
        return b"".join(line + b"\n" for line in self.lines)


def counters(entries):
    calls = [entry for entry in entries if entry.get("kind") == "call" and "outcome" in entry]
    counted = {action: sum(call["verdict"]["action"] == action for call in calls) for action in ACTIONS}
    return counted | {
        "calls": len(calls),
        "incomplete": sum(not call["outcome"]["complete"] for call in calls),
        "interrupted": sum(entry.get("kind") == "interrupted" for entry in entries),
    }


def claims(entries):
    found = {}
    for entry in entries:
        for name, value in entry.get("claims", {}).items():
            found.setdefault(name, set()).add(value)
    return {name: sorted(values, key=str.encode)[:16] for name, values in found.items()}


def metrics(entries):
    values = sorted(
        entry["time"]["total_us"] for entry in entries if entry.get("kind") == "call" and entry["time"]
    )

    def rank(percent):
        return values[-(-percent * len(values) // 100) - 1]

    return {f"total_p{percent}_us": rank(percent) for percent in (50, 95, 99)} if values else None


def policies(entries):
    found = {entry["policy"] for entry in entries if entry.get("kind") == "run.open"}
    return sorted(found | {entry["policy"]["hash"] for entry in entries if entry.get("kind") == "call"})


def role(path):
    first = path.split("/")[0]
    named = {"receipts.ndjson": "entries", "receipts.sig": "signatures", "anchor.tlog-proof": "anchor"}
    named |= {
        "policy": "policy",
        "contracts": "contract",
        "streams": "stream",
        "bodies": "body",
        "keys": "key",
    }
    return named.get(first, "checkpoint" if path == "checkpoint" else "other")


class Bundle:
    """A bundle of `run`. Each hook gets what its stage made: it changes it in place, or gives another.

    lines (the Lines), ndjson, sigfile, checkpoint (arguments of `note`), checkpoint_bytes, anchor_bytes,
    listed (files that the manifest will list), manifest, manifest_bytes, statement, payload, envelope,
    envelope_bytes, unlisted (files, before SHA256SUMS), sums, after (all files), entries (of the ZIP),
    zip."""

    def __init__(self, run, *, lines=None, anchor=None, manifest_key=None, **hooks):
        self.run, self.hooks = run, hooks
        self.lines = lines or Lines(run)
        self.hook("lines", self.lines)
        files = {"receipts.ndjson": self.hook("ndjson", self.lines.text())}
        sigfile = self.hook("sigfile", b"".join(self.lines.sigs) if run.sign == "each" else None)
        if sigfile is not None:
            files["receipts.sig"] = sigfile
        files["checkpoint"] = self.hook("checkpoint_bytes", self.checkpoint())
        if anchor is not None:
            files["anchor.tlog-proof"] = self.hook("anchor_bytes", self.anchor(**anchor))
        files |= {f"policy/{sha_hex(data)}.json": data for data in run.policies.values()}
        files |= {f"contracts/{sha_hex(data)}.json": data for data in run.contracts.values()}
        files |= {f"streams/{call}.nodes": data for call, data in run.streams.items()}
        files |= {f"bodies/{name}": data for name, data in run.bodies.items()}
        self.hook("listed", files)
        self.manifest = self.make_manifest(files)
        self.hook("manifest", self.manifest)
        files["manifest.json"] = self.hook("manifest_bytes", canonical(self.manifest))
        payload = self.hook("payload", canonical(self.hook("statement", self.make_statement(files))))
        signer = manifest_key or run.keys.manifest
        signed = self.hook("envelope", envelope(PAE_STATEMENT, payload, signer))
        files["manifest.dsse.json"] = self.hook("envelope_bytes", canonical(signed))
        self.hook("unlisted", files)
        files["SHA256SUMS"] = self.hook("sums", sums(files))
        self.hook("after", files)
        self.files = files
        self.externals = dict(run.externals)

    def hook(self, name, value):
        changed = self.hooks[name](value) if name in self.hooks else None
        return value if changed is None else changed

    def checkpoint(self):
        arguments = {
            "origin": f"{self.run.iss}/run/{self.run.id}",
            "size": len(self.lines.lines),
            "tree_root": root(self.lines.hashes()),
            "signer": self.run.keys.checkpoint,
            "name": self.run.iss,
        }
        return note(**self.hook("checkpoint", arguments))

    def anchor(self, before, after, **changes):
        """The seal stands behind `before` foreign entries and this run's own, and before `after` others."""
        log = [sha(b"foreign %d" % at) for at in range(before)]
        index = before + len(self.lines.lines) - 1
        log += self.lines.hashes() + [sha(b"later %d" % at) for at in range(after)]
        made = {"index": index, "path": inclusion(log, index)}
        checkpoint = {
            "origin": self.run.iss,
            "size": len(log),
            "tree_root": root(log),
            "signer": self.run.keys.checkpoint,
            "name": self.run.iss,
        }
        checkpoint |= changes.pop("note", {})
        return proof(**{**made, "checkpoint": note(**checkpoint), **changes})

    def make_manifest(self, files):
        entries, run = self.lines.entries, self.run
        first = entries[0]
        last = next(
            (entry for entry in reversed(entries) if entry.get("kind") == "run.seal"), {"ts": first["ts"]}
        )
        made = {
            "build": first.get("build", BUILD),
            "claims": claims(entries),
            "class": first.get("class", "caller"),
            "counters": counters(entries),
            "durability": first.get("durability", "group"),
            "externals": [
                {"bytes": len(data), "role": "body", "sha256": "sha256:" + name}
                for name, data in sorted(run.externals.items())
            ],
            "files": [
                {"bytes": len(files[path]), "path": path, "role": role(path), "sha256": content(files[path])}
                for path in sorted(files, key=str.encode)
            ],
            "iss": run.iss,
            "keys": [used.row() for used in run.used],
            "opened": first["ts"],
            "policies": policies(entries),
            "run": run.id,
            "seal_reason": last.get("reason", "clean"),
            "sealed": last["ts"],
            "sign": run.sign,
            "tree": {"root": self.lines.root(), "size": len(self.lines.lines)},
            "v": "pef/v0",
        }
        if (measured := metrics(entries)) is not None:
            made["metrics"] = measured
        if "name" in first:
            made["name"] = first["name"]
        return made

    def make_statement(self, files):
        made = self.manifest
        rows = [(row["path"], row["sha256"][7:]) for row in made["files"]]
        rows.append(("manifest.json", sha_hex(files["manifest.json"])))
        return {
            "_type": "https://in-toto.io/Statement/v1",
            "predicate": {
                "root": made["tree"]["root"],
                "run": made["run"],
                "size": made["tree"]["size"],
                "v": "pef/v0",
            },
            "predicateType": "urn:estoppel:pef:manifest:v0",
            "subject": [
                {"digest": {"sha256": digest}, "name": name}
                for name, digest in sorted(rows, key=lambda row: row[0].encode())
            ],
        }

    def zip(self):
        entries = self.hook("entries", zip_entries(self.files))
        return self.hook("zip", zip_bytes(entries))
