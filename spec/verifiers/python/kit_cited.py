"""What a kit has beside bundles and attestations: chains of custody, the index of an archive, the ledger of releases, certificates of
replays and results of regress (spec/kit.md). For kit_verify.py; Python 3.9 or later, nothing else.

Of the ledger all steps of spec/ledger.md are taken but E1, as an export has no files; the rows of an export are not made again.
"""

import functools
import hashlib
import json
import math
import os

import certificate_check
import kit_ledger
import pef_verify

TYPE = "application/vnd.in-toto+json"
EVENT = "application/vnd.estoppel.ledger.event.v0+json"
LINE_MAX = 16384
PART_MAX = 16 << 20
DEPTH_MAX = 128
EXACT_MAX = 2**53 - 1
ACTIONS = ("archived", "deleted", "disclosed", "moved", "sealed", "verified")
PASSED = {
    "anchoring": ("absent", "anchored"),
    "authenticity": ("self_asserted", "trusted"),
    "completeness": ("complete",),
    "integrity": ("ok",),
}
LISTED_MAX = 16
POINTER = ("bucket", "bytes", "endpoint", "key", "legal_hold", "mode", "retain_until", "sha256", "version")
ROLES = {
    "approval.given": "approver",
    "approval.waiver": "approver",
    "environment.set": "releaser",
    "evolution.finished": "runner",
    "evolution.started": "runner",
    "generation.abandoned": "author",
    "generation.amended": "author",
    "generation.sealed": "author",
    "promotion.finished": "releaser",
    "promotion.refused": "releaser",
    "promotion.started": "releaser",
    "roles.set": "owner",
    "rollback.done": "releaser",
    "stage.promoted": "releaser",
}


class Wrong(Exception):
    def __init__(self, code, detail):
        super().__init__(detail)
        self.code, self.detail = code, detail


def sha256(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def leaf(line):
    return "leaf:" + hashlib.sha256(b"\0" + line).hexdigest()


def passed(verified):
    """Whether a custodian's verification did: every word is one that says so."""
    return not {"reason", "found"} & set(verified) and all(verified[name] in words for name, words in PASSED.items())


class Schema(pef_verify.Schema):
    """With the words that schemas of statements, frameworks and exports have beyond those of evidence."""

    def _compile(self, schema):
        if schema is False:
            return lambda v: "it may not be there"
        return super()._compile(schema)

    def _kw_type(self, name, schema):
        if name == "null":
            return lambda v: None if v is None else "it is not null"
        return super()._kw_type(name, schema)

    def _kw_if(self, value, schema):
        holds, met, unmet = (self._compile(part) for part in (value, schema.get("then", {}), schema.get("else", {})))
        return lambda v: unmet(v) if holds(v) else met(v)

    def _kw_then(self, _value, _schema):
        return None  # by its `if`

    _kw_else = _kw_then

    def _kw_allOf(self, parts, _schema):
        checks = [self._compile(part) for part in parts]
        return lambda v: next(filter(None, (check(v) for check in checks)), None)

    def _kw_minProperties(self, n, _schema):
        return lambda v: "it has too few members" if type(v) is dict and len(v) < n else None

    def _kw_maxProperties(self, n, _schema):
        return lambda v: "it has too many members" if type(v) is dict and len(v) > n else None

    def _kw_propertyNames(self, of, _schema):
        check = self._compile(of)
        return lambda v: next(filter(None, map(check, v)), None) if type(v) is dict else None

    def _kw_anyOf(self, ways, _schema):
        checks = [self._compile(way) for way in ways]
        return lambda v: None if any(check(v) is None for check in checks) else "it has none of the forms that it may have"

    def _kw_oneOf(self, ways, _schema):
        checks = [self._compile(way) for way in ways]
        return lambda v: None if sum(check(v) is None for check in checks) == 1 else "it has not one of the forms that it may have"


@functools.lru_cache(maxsize=None)
def schema(name):
    """A schema of spec/ or, in a kit, beside the verifier."""
    here = os.path.dirname(os.path.abspath(__file__))
    for folder in (os.path.join(here, "schemas"), os.path.join(here, "..", "..")):
        path = os.path.join(folder, name + ".schema.json")
        if os.path.isfile(path):
            with open(path, "rb") as file:
                return Schema(json.loads(file.read()))
    raise pef_verify.Unreadable("schema %s is not there" % name)


def difference(stated, made, at=""):
    """The first place at which two values differ, also by the type alone (Python's True is 1), or None."""
    if type(stated) is dict and type(made) is dict:
        for name in sorted(set(stated) | set(made)):
            if name not in stated or name not in made:
                return "%s/%s" % (at, name)
            found = difference(stated[name], made[name], "%s/%s" % (at, name))
            if found is not None:
                return found
        return None
    if type(stated) is list and type(made) is list and len(stated) == len(made):
        pairs = enumerate(zip(stated, made))
        return next(filter(None, (difference(one, other, "%s/%d" % (at, index)) for index, (one, other) in pairs)), None)
    return None if type(stated) is type(made) and stated == made else at or "/"


def same(one, other):
    return difference(one, other) is None


def admitted(data, code, what):
    """Canonical JSON. -> value"""
    try:
        value = pef_verify.admit(data)
    except pef_verify.Malformed as wrong:
        raise Wrong(code, "%s: %s" % (what, wrong)) from None
    if pef_verify.canonical(value) != data:
        raise Wrong(code, "%s is not in canonical form" % what)
    return value


def _pairs(pairs):
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name comes twice")
    return members


def _constant(text):
    raise ValueError("%s is no number" % text)


def _whole(text):
    if len(text) > 400:
        raise ValueError("a number that a double cannot hold")
    return int(text)


def _double(number):
    """ECMAScript's text of a double, which RFC 8785 takes."""
    if not math.isfinite(number):
        raise ValueError("a number that a double cannot hold")
    if number == 0:
        return "0"
    digits, exponent = ("%r" % abs(number)).partition("e")[::2]
    whole, _, part = digits.partition(".")
    point, digits = len(whole) + int(exponent or 0), whole + part
    point -= len(digits) - len(digits.lstrip("0"))
    digits = digits.strip("0")
    if len(digits) <= point <= 21:
        text = digits + "0" * (point - len(digits))
    elif 0 < point <= 21:
        text = digits[:point] + "." + digits[point:]
    elif -6 < point <= 0:
        text = "0." + "0" * -point + digits
    else:
        text = digits[0] + ("." + digits[1:] if digits[1:] else "") + "e%+d" % (point - 1)
    return "-" + text if number < 0 else text


def written(value, depth=0):
    """RFC 8785 of what is no evidence: null, fractions and exponents are values there."""
    if isinstance(value, (dict, list)) and depth == DEPTH_MAX:
        raise ValueError("it is nested too deeply")
    if isinstance(value, dict):
        names = sorted(value, key=lambda name: name.encode("utf-16-be"))
        return "{%s}" % ",".join(written(name) + ":" + written(value[name], depth + 1) for name in names)
    if isinstance(value, list):
        return "[%s]" % ",".join(written(item, depth + 1) for item in value)
    if isinstance(value, float) or type(value) is int and abs(value) > EXACT_MAX:
        return _double(float(value))
    return json.dumps(value, ensure_ascii=False)


def foreign(data, code, what):
    """Canonical JSON with null. -> value"""
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_pairs, parse_int=_whole, parse_constant=_constant)
        if written(value).encode("utf-8") == data:
            return value
    except (ValueError, OverflowError, RecursionError) as wrong:
        raise Wrong(code, "%s: %s" % (what, wrong)) from None
    raise Wrong(code, "%s is not in canonical form" % what)


def key_of(stated, code, what):
    spki = pef_verify.unbase64(stated["spki"])
    key = None if spki is None else pef_verify.Key(spki)
    if key is None or key.alg is None or (key.alg, key.kid) != (stated["alg"], stated["kid"]):
        raise Wrong(code, "%s does not state its key" % what)
    return key


def lines_of(data, code):
    if not data:
        return []
    lines = data[:-1].split(b"\n")
    if data[-1:] != b"\n" or not all(1 <= len(line) <= LINE_MAX for line in lines):
        raise Wrong(code, "a line is empty or too long, or the last has no end")
    return lines


def is_next(entry, seq, before):
    return type(entry["seq"]) is int and entry["seq"] == seq and entry.get("prev") == before


class Custody:
    """C1 to C5 and C7 of spec/custody.md, with the bundle's row and its manifest."""

    def __init__(self, schemas, data):
        self.schemas, self.data = schemas, data
        self.form = schema("custody")
        self.lines = lines_of(data, "CUSTODY_FORM")
        if not self.lines:
            raise Wrong("CUSTODY_FORM", "a list of custody has no lines")
        self.entries = []
        for seq, line in enumerate(self.lines):
            self.entries.append(self.entry(seq, line))
        self.archive = self.entries[0]["bundle"]["sha256"]

    def entry(self, seq, line):
        what = "entry %d" % seq
        try:
            payload, kid, signature = pef_verify.read_envelope(self.schemas, line, TYPE)
        except pef_verify.Refusal as wrong:
            raise Wrong("CUSTODY_SCHEMA", "%s: %s" % (what, wrong.detail)) from None
        statement = admitted(payload, "CUSTODY_SCHEMA", what)
        wrong = self.form.error(statement)
        if wrong:
            raise Wrong("CUSTODY_SCHEMA", "%s: %s" % (what, wrong))
        entry = statement["predicate"]
        action = entry["action"]
        if [name for name in ACTIONS if name in entry] != [action]:
            raise Wrong("CUSTODY_SCHEMA", "%s has not the member of its action" % what)
        before = leaf(self.lines[seq - 1]) if seq else None
        first = self.entries[0] if seq else entry
        digest = "sha256:" + statement["subject"][0]["digest"]["sha256"]
        same = entry["bundle"] == first["bundle"] and digest == entry["bundle"]["sha256"]
        if not is_next(entry, seq, before) or (action == "sealed") != (seq == 0) or not same:
            raise Wrong("CUSTODY_CHAIN", "%s does not follow the one before it" % what)
        key = key_of(entry["key"], "CUSTODY_KEY", what)
        if key.kid != kid:
            raise Wrong("CUSTODY_KEY", "%s states another key than signs it" % what)
        if not key.verify_dsse(signature, TYPE, payload):
            raise Wrong("CUSTODY_SIGNATURE", "%s: its signature does not verify" % what)
        return entry

    def hold(self, run, manifest, archived):
        """C7, and C8 by the index."""
        for entry in self.entries:
            sealed = entry.get("sealed")
            said = {"iss": run["iss"], "manifest": manifest, "sealed": run["sealed"]}
            fits = entry["bundle"] == {"run": run["run"], "sha256": run["archive"]} and sealed in (None, said)
            archived_is_it = entry.get("archived", {}).get("sha256", run["archive"]) == run["archive"]
            found_is_it = entry.get("verified", {}).get("found") == run["archive"]
            if not fits or not archived_is_it or found_is_it:
                raise Wrong("CUSTODY_BUNDLE", "a list of custody does not say what its bundle says")
        for size, digest in archived:
            if size > len(self.data) or sha256(self.data[:size]) != digest:
                raise Wrong("CUSTODY_CUT", "a list of custody does not begin with what is archived")

    def signed_by(self, kids):
        for entry in self.entries:
            if entry["key"]["kid"] not in kids:
                raise Wrong("CUSTODY_UNTRUSTED", "an entry of custody is by key %s" % entry["key"]["kid"])

    def leaves(self):
        return [leaf(line) for line in self.lines]

    def failed(self):
        """Verifications that failed, or None where all passed."""
        looked = [(leaf(line), entry) for line, entry in zip(self.lines, self.entries) if entry["action"] == "verified"]
        listed = [dict(entry["verified"], entry=line, ts=entry["ts"]) for line, entry in looked if not passed(entry["verified"])]
        if not listed:
            return None
        last = "passed" if passed(looked[-1][1]["verified"]) else "failed"
        more = max(len(listed) - LISTED_MAX, 0)
        return {"count": len(listed), "last": last, "listed": listed[more:], "more": more}

    def row(self, run):
        actions, failed = {}, self.failed()
        for entry in self.entries:
            actions[entry["action"]] = actions.get(entry["action"], 0) + 1
        row = {} if failed is None else {"failed": failed}
        return {
            **row,
            "actions": actions,
            "bytes": len(self.data),
            "digest": sha256(self.data),
            "entries": len(self.lines),
            "head": leaf(self.lines[-1]),
            "run": run,
            "signers": sorted({entry["key"]["kid"] for entry in self.entries}),
        }


class Archive:
    """A1 to A4 of spec/archive.md, and the copies of these bundles."""

    def __init__(self, data, runs):
        self.data, form = data, schema("archive")
        self.lines, self.entries, self.copies, self.lists = lines_of(data, "ARCHIVE_FORM"), [], [], {}
        by_archive, by_name = {run["archive"]: run for run in runs}, {run["run"]: run for run in runs}
        for seq, line in enumerate(self.lines):
            what = "entry %d of the archive" % seq
            entry = admitted(line, "ARCHIVE_SCHEMA", what)
            wrong = form.error(entry)
            if wrong:
                raise Wrong("ARCHIVE_SCHEMA", "%s: %s" % (what, wrong))
            if not is_next(entry, seq, leaf(self.lines[seq - 1]) if seq else None):
                raise Wrong("ARCHIVE_CHAIN", "%s does not follow the one before it" % what)
            if not entry["key"].endswith(entry["sha256"].replace(":", "/", 1)):
                raise Wrong("ARCHIVE_KEY", "%s has another key than its digest" % what)
            self.entries.append(entry)
            name, digest = entry["name"], entry["sha256"]
            if entry["kind"] == "custody" and name.endswith(".pef.zip.custody.ndjson"):
                self.lists.setdefault(name[: -len(".pef.zip.custody.ndjson")], []).append((entry["bytes"], digest))
            if entry["kind"] != "bundle":
                continue
            if digest in by_archive:
                self.copies.append((by_archive[digest]["run"], leaf(line), entry))
            elif name.endswith(".pef.zip") and name[:-8] in by_name:
                raise Wrong("ARCHIVE_LOCAL_CHANGED", "the archive has another file under the name of run %s" % name[:-8])

    def document(self, custody):
        """`custody`: by run, lists as far as they count."""
        rows = []
        for run, entry, stated in self.copies:
            at = {name: stated[name] for name in POINTER}
            row = dict(at, entry=entry, run=run)
            chain = custody.get(run)
            for index, act in enumerate(chain.entries if chain else ()):
                if act.get("archived") == at:
                    row["signed"] = leaf(chain.lines[index])
            rows.append(row)
        document = {"bytes": len(self.data), "copies": rows, "digest": sha256(self.data), "entries": len(self.lines)}
        if self.lines:
            document["head"] = leaf(self.lines[-1])
        return document


class Ledger:
    """E2 to E9 of spec/ledger.md over the events of an export."""

    def __init__(self, data):
        if data[-1:] != b"\n":
            raise Wrong("AUDIT_ALTERED", "the export does not end with LF")
        document = foreign(data[:-1], "AUDIT_ALTERED", "the export")
        wrong = schema("audit").error(document)
        if wrong:
            raise Wrong("AUDIT_ALTERED", "it is no export of a ledger: %s" % wrong)
        self.events, self.order = {}, []
        for envelope in document["events"]:
            event = self.event(written(envelope).encode())
            if event["id"] in self.events:
                raise Wrong("AUDIT_ALTERED", "an event comes twice")
            self.events[event["id"]] = event
            self.order.append(event["id"])
        self.check()
        heads = sorted(set(self.events) - {parent for event in self.events.values() for parent in event["parents"]})
        self.row = self.document(heads)
        if [document[name] for name in ("genesis", "head", "heads")] != [self.row[name] for name in ("genesis", "head", "heads")]:
            raise Wrong("AUDIT_ALTERED", "the export names other heads than its events have")

    def event(self, data):
        envelope = foreign(data, "LEDGER_EVENT_INVALID", "an event")
        rows = envelope.get("signatures") if isinstance(envelope, dict) else None
        if not isinstance(rows, list) or len(rows) != 1 or sorted(envelope) != ["payload", "payloadType", "signatures"]:
            raise Wrong("LEDGER_EVENT_INVALID", "an event is no envelope")
        if envelope["payloadType"] != EVENT or sorted(rows[0]) != ["keyid", "sig"]:
            raise Wrong("LEDGER_EVENT_INVALID", "an event is of another type")
        kid, signature, payload = rows[0]["keyid"], pef_verify.unbase64(rows[0]["sig"]), pef_verify.unbase64(envelope["payload"])
        if payload is None or signature is None or len(signature) != 64:
            raise Wrong("LEDGER_EVENT_INVALID", "an event holds base64 that is not strict")
        event = foreign(payload, "LEDGER_EVENT_INVALID", "an event")
        wrong = schema("ledger").error(event)
        if wrong or event["actor"] != kid:
            raise Wrong("LEDGER_EVENT_INVALID", "an event has not the form of one: %s" % (wrong or "its actor does not sign it"))
        return dict(event, id=sha256(data), payload=payload, signature=signature)

    def check(self):
        genesis, roles = None, {}
        for name in self.order:
            event = self.events[name]
            before = [self.events.get(parent) for parent in event["parents"]]
            if any(parent is None or parent["id"] not in roles for parent in before):
                raise Wrong("LEDGER_PARENT_MISSING", "an event follows one that is not before it")
            if any(parent["at"] > event["at"] for parent in before):
                raise Wrong("LEDGER_TIME", "an event is older than one that it follows")
            if not before:
                if genesis is not None or event["kind"] != "roles.set":
                    raise Wrong("LEDGER_GENESIS", "the ledger does not begin with one event that says who may do what")
                genesis, inherited = name, []
            else:
                inherited = max((roles[parent["id"]] for parent in before), key=len)
                if any(roles[parent["id"]] != inherited[: len(roles[parent["id"]])] for parent in before):
                    raise Wrong("LEDGER_CONFLICT", "roles do not form one line")
            line = inherited + [name] if event["kind"] == "roles.set" else inherited
            rule = self.events[(inherited or line)[-1]]["body"]["keys"].get(event["actor"])
            spki = pef_verify.unbase64(rule["spki"]) if rule else None
            key = pef_verify.Key(spki) if spki else None
            if key is None or key.kid != event["actor"] or ROLES[event["kind"]] not in rule["roles"]:
                raise Wrong("LEDGER_SIGNATURE", "%s has not the role for %s" % (event["actor"], event["kind"]))
            if key.alg != pef_verify.ED25519 or not key.verify_dsse(event["signature"], EVENT, event["payload"]):
                raise Wrong("LEDGER_SIGNATURE", "the signature of an event does not verify")
            roles[name] = line
        lines = sorted((line for line in roles.values()), key=len)
        if any(line != lines[-1][: len(line)] for line in lines):
            raise Wrong("LEDGER_CONFLICT", "roles do not form one line")
        self.genesis = genesis
        try:
            kit_ledger.History(self.events, lambda value: sha256(written(value).encode()), sha256).check()
        except kit_ledger.Conflict as wrong:
            raise Wrong(wrong.code, wrong.detail) from None

    def document(self, heads, events=None):
        text = "".join(head + "\n" for head in heads).encode()
        count = len(self.events) if events is None else events
        return {"events": count, "genesis": self.genesis, "head": sha256(text), "heads": heads}

    def as_of(self, heads):
        """Ids of the events up to those heads, in the order of the ledger."""
        todo, found = list(heads), set()
        while todo:
            name = todo.pop()
            if name not in self.events:
                raise Wrong("AUDIT_ALTERED", "the ledger has no event %s" % name)
            if name not in found:
                found.add(name)
                todo += self.events[name]["parents"]
        return [name for name in self.order if name in found]

    def kinds(self):
        counts = {}
        for event in self.events.values():
            counts[event["kind"]] = counts.get(event["kind"], 0) + 1
        return [{"count": counts[kind], "kind": kind} for kind in sorted(counts)]


class Opened:
    """A bundle that was verified."""

    def __init__(self, path):
        self.box = pef_verify.ZipBundle(path)
        self.names, self.manifest = self.box.names, json.loads(self.box.read("manifest.json"))


def certificate(path, data, runs, opened):
    """R1 to R7 of spec/replay.md. `opened`: the bundle of a run. -> row of the summary"""
    try:
        statement, key = certificate_check.read(data, None)
        predicate = statement["predicate"]
        certificate_check.check_status(predicate)
        run = next((run["run"] for run in runs if run["run"] == predicate["bundle"]["run"]), None)
        certificate_check.demand(run is not None, "MISMATCH", "it is about none of these bundles")
        certificate_check.check_bundle(statement, key, opened(run))
    except certificate_check.Refused as wrong:
        raise Wrong(wrong.code, "%s: %s" % (path, wrong.detail)) from None
    return {
        "counts": predicate["counts"],
        "digest": sha256(data),
        "kid": key.kid,
        "mode": predicate["mode"],
        "path": path,
        "run": run,
        "status": predicate["status"],
    }


def result(path, data, calls):
    """A result of regress: rows by receipts, numbers by rows. `calls`: receipts by call. -> row of the summary"""

    def demand(holds, why):
        if not holds:
            raise Wrong("KIT_RESULT", "%s: %s" % (path, why))

    demand(len(data) <= PART_MAX, "it is too large")
    stated = foreign(data, "KIT_RESULT", path)
    demand(isinstance(stated, dict) and ("calls" in stated) != ("fixtures" in stated), "it has neither calls nor fixtures, or both")
    counts = {"changed": 0, "same": 0, "undecided": 0}
    for row in stated.get("calls", stated.get("fixtures")):
        receipt = calls.get(row["call"])
        demand(receipt is not None, "call %s is in none of the bundles" % row["call"])
        demand(row["state"] in counts, "call %s has no state" % row["call"])
        counts[row["state"]] += 1
        expected, now, verdict = row["expected"], row.get("now"), receipt["verdict"]
        by, wanted = expected["by"], [expected["verdict"], expected["reason"]]
        recorded = {
            "author": True,
            "receipt": same(wanted, [verdict["action"], verdict.get("reason")]),
            "verdict": same(wanted[0], verdict["action"]),
        }.get(by, False)
        is_same = now is not None and same(now["verdict"], wanted[0]) and (by != "receipt" or same(now["reason"], wanted[1]))
        state = {"same": is_same, "changed": now is not None and not is_same, "undecided": now is None and isinstance(row.get("cause"), str)}
        rule = same([expected["rule"], row["seq"]], [receipt["policy"].get("rule"), receipt["seq"]])
        demand(recorded and state[row["state"]] and rule, "call %s is not what its receipt or its state says" % row["call"])
    demand(all(type(stated[name]) is int and stated[name] == count for name, count in counts.items()), "its rows give other numbers")
    demand(stated["checkpoints"] in ("trusted", "unchecked"), "it does not say whether checkpoints were looked at")
    policy = stated["policy_hash"]
    digits = policy[7:] if policy.startswith("sha256:") else ""
    demand(len(digits) == 64 and not set(digits) - set("0123456789abcdef"), "it does not say by which policy")
    return dict(counts, checkpoints=stated["checkpoints"], digest=sha256(data), path=path, policy_hash=policy)
