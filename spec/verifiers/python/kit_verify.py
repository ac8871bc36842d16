#!/usr/bin/env python3
"""Verifies a kit (spec/kit.md): Python 3.9 or later, nothing else, no network, nothing written beside it.

    python3 verify.py                       the kit that this file was unpacked from
    python3 verify.py KIT.zip               a kit that is still one file; only so an entry that comes twice is seen
    python3 verify.py --trust trust.json    the kit's trust document has to be this one, which you have from elsewhere
    python3 verify.py --signer key.pem      the kit and its attestations have to be signed by this key

Exit code 0: all of it holds. 2: it does not, and the code says why. 6: nothing was decided.
"""

import os
import sys

sys.dont_write_bytecode = True  # a kit has no files but those that it declares
HERE = os.path.dirname(os.path.realpath(__file__))
sys.path[:] = [path for path in sys.path if os.path.realpath(path) != HERE]  # it stands in for no module of Python

import argparse  # noqa: E402
import hashlib  # noqa: E402
import json  # noqa: E402
import re  # noqa: E402
import tempfile  # noqa: E402

sys.path += [os.path.join(HERE, "verifiers", "python"), HERE]

import kit_cited  # noqa: E402
import kit_controls  # noqa: E402
import kit_oscal  # noqa: E402
import kit_page  # noqa: E402
import pef_verify  # noqa: E402

TYPE = "application/vnd.in-toto+json"
INDEX, TRUST = "kit.json", "trust.json"
ARCHIVE, LEDGER, CUSTODY = "archive.ndjson", "ledger.json", ".custody.ndjson"
STATEMENT, KIT, ATTESTATION = "https://in-toto.io/Statement/v1", "urn:estoppel:kit:v0", "urn:estoppel:attestation:v0"
FILES = re.compile(
    r"kit\.json|trust\.json|archive\.ndjson|ledger\.json|verify\.(?:md|py)|verifiers/.+|frameworks/[^/]+\.toml"
    r"|bundles/[^/]+\.pef\.zip(?:\.d/[0-9a-f]{64}|\.custody\.ndjson)?|(?:certificates|policies|regress)/[0-9a-f]{64}\.json|contracts/[0-9a-f]{64}"
    r"|attestations/[^/]+/(?:attestation\.json|attestation\.pdf|assessment-results\.json)"
)
UNDECIDED = ("ATTESTATION_EMPTY", "ATTESTATION_LIMIT", "FRAMEWORK_INVALID", "KEY_INVALID", "TRUST_INVALID")  # exit code 6
KIT_MAX, FRAMEWORK_MAX = 1 << 30, 1 << 20  # bytes
BUNDLES_MAX, ENTRIES_MAX, NAMES_MAX = 256, 2000000, 4096
COUNTERS = ("allow", "block", "calls", "hold", "incomplete", "interrupted", "repair")
INVENTORY = (
    ("models", ("facts", "model")),
    ("operations", ("operation",)),
    ("outcomes", ("outcome", "code")),
    ("rules", ("policy", "rule")),
    ("tools", ("facts", "tools_called")),
    ("upstreams", ("upstream",)),
)


class Refused(Exception):
    def __init__(self, code, detail):
        super().__init__(detail)
        self.code, self.detail = code, detail


def sha256(data):
    return hashlib.sha256(data).hexdigest()


class Folder:
    """A kit that was unpacked."""

    def __init__(self, path):
        self.path, self.names = path, []
        for folder, folders, files in os.walk(path):
            for name in folders + files:
                full = os.path.join(folder, name)
                if os.path.islink(full) or not (os.path.isdir(full) or os.path.isfile(full)):
                    raise Refused("KIT_UNDECLARED", "%s is neither a file nor a folder" % os.path.relpath(full, path))
            self.names += [os.path.relpath(os.path.join(folder, name), path).replace(os.sep, "/") for name in files]
        self.names.sort()
        self.known = set(self.names)
        self.bytes = sum(os.path.getsize(os.path.join(path, *name.split("/"))) for name in self.names)

    def __contains__(self, name):
        return name in self.known

    def read(self, name):
        with open(os.path.join(self.path, *name.split("/")), "rb") as file:
            return file.read()


def within(count, most, what):
    if count > most:
        raise Refused("ATTESTATION_LIMIT", "there are more than %d %s" % (most, what))


def unpack(path, into):
    """A kit that is one file, in the one form that it may have."""
    try:
        archive = pef_verify.ZipBundle(path)
        within(sum(map(archive.size, archive.names)), KIT_MAX, "bytes")
        names = set(archive.names)
        for name in archive.names:
            above = next((name[:at] for at, c in enumerate(name) if c == "/" and name[:at] in names), None)
            if above is not None:
                raise Refused("KIT_FORM", "%s is a file, and the folder of %s" % (above, name))
            full = os.path.join(into, *name.split("/"))
            os.makedirs(os.path.dirname(full), exist_ok=True)
            with open(full, "wb") as file:
                file.write(archive.read(name))
        archive.check_crcs()
    except pef_verify.Refusal as wrong:
        raise Refused("KIT_FORM", "%s: %s" % (wrong.code, wrong.detail)) from None


def read_statement(schemas, data, what, kind, code):
    """An envelope that is signed by the key that its statement states; `code` where it is not. -> (statement, payload, key)"""
    try:
        payload, kid, signature = pef_verify.read_envelope(schemas, data, TYPE)
        statement = pef_verify.admit(payload)
    except (pef_verify.Refusal, pef_verify.Malformed) as wrong:
        raise Refused(code, "%s: %s" % (what, getattr(wrong, "detail", wrong))) from None
    if pef_verify.canonical(statement) != payload:
        raise Refused(code, "%s is not in canonical form" % what)
    if not isinstance(statement, dict) or not is_statement(statement, kind):
        raise Refused(code, "%s is no statement of its kind" % what)
    stated = statement["predicate"]["key"]
    spki = pef_verify.unbase64(stated["spki"])
    key = None if spki is None else pef_verify.Key(spki)
    if key is None or key.alg is None or (key.alg, key.kid, key.kid) != (stated["alg"], stated["kid"], kid):
        raise Refused(code, "%s does not state the key that signs it" % what)
    if not key.verify_dsse(signature, TYPE, payload):
        raise Refused(code, "the signature of %s does not verify" % what)
    return statement, payload, stated


def is_statement(statement, kind):
    """Whether what is read of it is there."""
    predicate, subjects = statement.get("predicate"), statement.get("subject")
    key = predicate.get("key") if isinstance(predicate, dict) else None
    texts = isinstance(key, dict) and sorted(key) == ["alg", "kid", "spki"] and all(isinstance(text, str) for text in key.values())
    subject = lambda one: (
        isinstance(one, dict)
        and sorted(one) == ["digest", "name"]
        and isinstance(one["name"], str)
        and isinstance(one["digest"], dict)
        and list(one["digest"]) == ["sha256"]
    )
    listed = isinstance(subjects, list) and all(map(subject, subjects))
    return texts and listed and (statement.get("_type"), statement.get("predicateType")) == (STATEMENT, kind)


def compare(kit, statement):
    """What is declared is there as declared, and nothing else is there."""
    declared = {INDEX}
    for subject in statement["subject"]:
        name = subject["name"]
        if name in declared:
            raise Refused("KIT_FORM", "%s is declared twice" % name)
        declared.add(name)
        if name not in kit:
            raise Refused("KIT_MISSING", "%s is declared and not there" % name)
        if sha256(kit.read(name)) != subject["digest"]["sha256"]:
            raise Refused("KIT_ALTERED", "%s is not what was declared" % name)
    for name in kit.names:
        if name not in declared:
            raise Refused("KIT_UNDECLARED", "%s is not declared" % name)
        if not FILES.fullmatch(name):
            raise Refused("KIT_FORM", "%s is no file of a kit" % name)
        folder = name.split("/")[1] if name.startswith(("attestations/", "frameworks/")) else None
        other = {"attestations": "frameworks/%s.toml" % folder, "frameworks": "attestations/%s/attestation.json" % (folder or "")[:-5]}
        if folder is not None and other[name.split("/")[0]] not in kit:
            raise Refused("KIT_MISSING", "%s belongs to %s" % (name, other[name.split("/")[0]]))
        if name.endswith("/attestation.json"):
            for copy in ("attestation.pdf", "assessment-results.json"):
                if name.replace("attestation.json", copy) not in kit:
                    raise Refused("KIT_MISSING", "%s is not there" % name.replace("attestation.json", copy))


class Counted:
    """What is counted over the entries of the bundles."""

    def __init__(self):
        self.counters, self.rows = dict.fromkeys(COUNTERS, 0), []
        self.inventory = {name: {} for name, _ in INVENTORY}
        self.digests, self.manifests, self.keys = set(), {}, set()
        self.calls, self.kinds, self.times, self.entries = {}, {}, [], {}

    def bundle(self, path, data, answer):
        bundle = pef_verify.ZipBundle(path)
        manifest = bundle.read("manifest.json")
        stated = json.loads(manifest)
        run, before = stated["run"], dict(self.counters)
        self.keys.update(key["kid"] for key in stated["keys"])
        self.manifests[run] = stated
        self.digests.add("sha256:" + sha256(manifest))
        for name in bundle.names:
            self.digests.add("sha256:" + sha256(bundle.read(name)))
        lines = bundle.read("receipts.ndjson").split(b"\n")[:-1]
        within(sum(self.kinds.values()) + len(lines), ENTRIES_MAX, "entries")
        for line in lines:
            leaf, entry = "leaf:" + sha256(b"\0" + line), json.loads(line)
            self.digests.add(leaf)
            self.entries.setdefault(run, []).append((leaf, entry))
            self.entry(entry)
        row = {name: stated[name] for name in ("iss", "name", "opened", "run", "sealed") if name in stated}
        row.update(
            archive="sha256:" + sha256(data),
            counters={name: count - before[name] for name, count in self.counters.items()},
            entries=answer["entries"],
            manifest="sha256:" + sha256(manifest),
            root=stated["tree"]["root"],
            verdicts=answer["verdicts"],
        )
        self.rows.append(row)
        return run

    def entry(self, entry):
        self.kinds[entry["kind"]] = self.kinds.get(entry["kind"], 0) + 1
        self.times.append(entry["ts"])
        if entry["kind"] == "interrupted":
            self.counters["interrupted"] += 1
        if entry["kind"] != "call":
            return
        self.calls[entry["call"]] = entry
        self.counters["calls"] += 1
        self.counters[entry["verdict"]["action"]] += 1
        self.counters["incomplete"] += not entry["outcome"]["complete"]
        for name, way in INVENTORY:
            stated = entry
            for step in way:
                stated = stated.get(step, {})
            for value in stated if isinstance(stated, list) else [stated]:
                if isinstance(value, str):
                    self.inventory[name][value] = self.inventory[name].get(value, 0) + 1

    def trace(self):
        kinds = [{"count": self.kinds[kind], "kind": kind} for kind in sorted(self.kinds)]
        return {"entries": sum(self.kinds.values()), "first": min(self.times), "kinds": kinds, "last": max(self.times)}

    def names(self):
        rows = {}
        for what, counts in self.inventory.items():
            within(len(counts), NAMES_MAX, what)
            rows[what] = [{"count": counts[name], "name": name} for name in sorted(counts, key=str.encode)]
        return rows


def check_bundles(kit, root, counted):
    for name in kit.names:
        if not (name.startswith("bundles/") and name.endswith(".pef.zip")):
            continue
        within(len(counted.rows) + 1, BUNDLES_MAX, "bundles")
        path = os.path.join(root, *name.split("/"))
        answer = pef_verify.verify_path(path, trust=os.path.join(root, TRUST))
        if not answer["ok"]:
            code = "TRUST_INVALID" if answer["exit"] == 6 else "ATTESTATION_BUNDLE"
            raise Refused(code, "%s: %s %s" % (name, answer["reason"], answer["detail"]))
        if name != "bundles/%s.pef.zip" % counted.bundle(path, kit.read(name), answer):
            raise Refused("KIT_ALTERED", "%s is not the run that it is called" % name)
    if not counted.rows:
        attested = any(name.startswith("frameworks/") for name in kit.names)
        raise Refused("ATTESTATION_EMPTY" if attested else "KIT_SUMMARY", "there is no bundle")
    counted.rows.sort(key=lambda row: (row["iss"], row["opened"], row["run"]))


class Cited:
    """What the kit has beside bundles and attestations."""

    def __init__(self, kit, schemas, counted):
        self.unmade = False  # whether a framework could not be read
        self.kit, self.runs = kit, {row["run"]: row for row in counted.rows}
        self.archive = kit_cited.Archive(kit.read(ARCHIVE), counted.rows) if ARCHIVE in kit else None
        self.ledger = kit_cited.Ledger(kit.read(LEDGER)) if LEDGER in kit else None
        self.custody, self.summary = {}, {"certificates": [], "regress": []}
        for name in kit.names:
            data = kit.read(name) if name.endswith(CUSTODY) or name.startswith(("certificates/", "regress/")) else None
            if name.startswith("bundles/") and name.endswith(CUSTODY):
                self.chain(schemas, name, data)
            elif data is not None and name.rpartition("/")[2] != sha256(data) + ".json":
                raise Refused("KIT_ALTERED", "%s is not the content that it is called" % name)
            elif name.startswith("certificates/"):
                opened = lambda run: kit_cited.Opened(os.path.join(kit.path, "bundles", run + ".pef.zip"))
                row = kit_cited.certificate(name, data, counted.rows, opened)
                self.summary["certificates"].append(row)
            elif name.startswith("regress/"):
                self.summary["regress"].append(kit_cited.result(name, data, counted.calls))
        self.policies()
        self.summary.update(self.document(self.custody, self.archive, self.ledger and self.ledger.row))
        if self.ledger:
            self.summary["releases"] = self.ledger.kinds()

    def policies(self):
        """Policies of results, and the contracts that these take from packs. Nothing is judged by them."""
        folder = lambda place: [(name, self.kit.read(name)) for name in self.kit.names if name.startswith(place)]
        policies, contracts, wanted = folder("policies/"), folder("contracts/"), set()
        cited = set()
        for row in self.summary["regress"]:
            path = "policies/%s.json" % row["policy_hash"][7:]
            if path in self.kit:
                row["policy"] = path
                cited.add(path)
        for name, data in policies:
            if name != "policies/%s.json" % sha256(data):
                raise Refused("KIT_ALTERED", "%s is not the content that it is called" % name)
            if name not in cited:
                raise Refused("KIT_FORM", "%s is the policy of no result" % name)
            if len(data) > kit_cited.PART_MAX:
                raise Refused("KIT_FORM", "%s is too large" % name)
            policy = kit_cited.foreign(data, "KIT_FORM", name)
            contracts_of = policy.get("contracts") if isinstance(policy, dict) else None
            rows = contracts_of.values() if isinstance(contracts_of, dict) else []
            packed = [row["sha256"] for row in rows if isinstance(row, dict) and "pack" in row and isinstance(row.get("sha256"), str)]
            wanted |= {"contracts/" + name for name in packed}
        for name in sorted(wanted):
            if name not in self.kit:
                raise Refused("KIT_MISSING", "%s is not there" % name)
        for name, data in contracts:
            if name != "contracts/" + sha256(data):
                raise Refused("KIT_ALTERED", "%s is not the content that it is called" % name)
            if name not in wanted:
                raise Refused("KIT_FORM", "%s is a contract of no policy" % name)

    def chain(self, schemas, name, data):
        chain = kit_cited.Custody(schemas, data)
        run = next((row["run"] for row in self.runs.values() if row["archive"] == chain.archive), None)
        if run is None:
            raise Refused("CUSTODY_BUNDLE", "%s is of none of these bundles" % name)
        if name != "bundles/%s.pef.zip%s" % (run, CUSTODY):
            raise Refused("KIT_ALTERED", "%s is of another bundle than it is called" % name)
        chain.hold(self.runs[run], self.runs[run]["manifest"], self.archive.lists.get(run, []) if self.archive else [])
        self.custody[run] = chain

    def document(self, custody, archive, ledger):
        rows = {}
        if custody:
            rows["custody"] = [custody[run].row(run) for run in self.runs if run in custody]
        if archive:
            rows["archive"] = archive.document(custody)
        if ledger:
            rows["ledger"] = ledger
        return rows

    def digests(self, custody, archive, events):
        leaves = {leaf for chain in custody.values() for leaf in chain.leaves()}
        return leaves | set(events) | {leaf for _, leaf, _ in (archive.copies if archive else ())}

    def as_stated(self, schemas, predicate):
        """What a statement cites, made again of the beginnings that it is about. -> (rows, custody, archive, ids of events)"""
        custody, archive, events = {}, None, []
        if "archive" in predicate and self.archive:
            archive = kit_cited.Archive(self.archive.data[: predicate["archive"]["bytes"]], list(self.runs.values()))
        for row in predicate.get("custody", []):
            if row["run"] in self.custody:
                chain = kit_cited.Custody(schemas, self.custody[row["run"]].data[: row["bytes"]])
                chain.hold(self.runs[row["run"]], self.runs[row["run"]]["manifest"], archive.lists.get(row["run"], []) if archive else [])
                custody[row["run"]] = chain
        kids = [kit_cited.key_of(key, "ATTESTATION_FORM", "a custodian").kid for key in predicate.get("custodians", [])]
        for chain in custody.values() if kids else ():
            chain.signed_by(kids)
        ledger = None
        if "ledger" in predicate and self.ledger:
            events = self.ledger.as_of(predicate["ledger"]["heads"])
            ledger = self.ledger.document(predicate["ledger"]["heads"], len(events))
        return self.document(custody, archive, ledger), custody, archive, events


def read_framework(kit, path):
    """-> its file, or None where this Python cannot read it."""
    data = kit.read(path)
    within(len(data), FRAMEWORK_MAX, "bytes of a framework")
    try:
        framework = kit_controls.framework(data)
    except (ValueError, RecursionError) as wrong:
        raise Refused("FRAMEWORK_INVALID", "%s: %s" % (path, wrong)) from None
    if framework is None:
        return None
    wrong = kit_cited.schema("framework").error(framework)
    ids = [control["id"] for control in framework["control"]] if not wrong else []
    if wrong or len(set(ids)) != len(ids) or not all(framework[name].strip() for name in ("edition", "licence", "source", "title")):
        raise Refused("FRAMEWORK_INVALID", "%s: %s" % (path, wrong or "a control comes twice, or a text is blank"))
    if path != "frameworks/%s.toml" % framework["id"]:
        raise Refused("KIT_ALTERED", "%s is not the framework that it is called" % path)
    return framework


def is_tool(tool):
    texts = isinstance(tool, dict) and sorted(tool) == ["digest", "name", "version"] and all(isinstance(text, str) for text in tool.values())
    return texts and kit_cited.schema("attestation").definition("sha256")(tool["digest"]) is None


def is_moment(text):
    try:
        return kit_controls.moment(text) >= 0
    except ValueError:
        return False


def check_attestation(kit, schemas, folder, counted, cited):
    """It is made again, and its OSCAL copy. Not so are its page, words of why something is not assessed, and without a reader of TOML
    its controls, evidence and counts, and what it says of its framework."""
    name, path = folder + "/attestation.json", "frameworks/%s.toml" % folder.partition("/")[2]
    framework = read_framework(kit, path)
    data = kit.read(name)
    statement, payload, key = read_statement(schemas, data, name, ATTESTATION, "ATTESTATION_FORM")
    predicate, form = statement["predicate"], kit_cited.schema("attestation")
    made, wrong = predicate.get("made"), form.error(statement)
    times = not form.definition("time")(made) and is_moment(made)
    if not times or form.definition("uuid")(predicate.get("id")) or not is_tool(predicate.get("tool")):
        raise Refused("ATTESTATION_FORM", "%s does not say its id, time and program" % name)
    if wrong:
        raise Refused("ATTESTATION_MISMATCH", "%s: %s" % (name, wrong))
    if key["kid"] in counted.keys:
        raise Refused("KEY_INVALID", "%s is signed by a key of its evidence" % name)
    rows, custody, archive, events = cited.as_stated(schemas, predicate)
    again = dict(rows, bundles=counted.rows, clock="system", id=predicate["id"], key=key, made=made, tool=predicate["tool"])
    again.update(trust="sha256:" + sha256(kit.read(TRUST)), v="attestation/v0")
    again["framework"] = dict(framework or predicate["framework"], digest="sha256:" + sha256(kit.read(path)))
    if custody and "custodians" in predicate:
        keys = {row["kid"]: row for row in predicate["custodians"]}
        again["custodians"] = [keys[kid] for kid in sorted(keys)]
    if framework is None:
        cited.unmade = True
        again["framework"]["id"] = folder.partition("/")[2]
        again.update({member: predicate[member] for member in ("controls", "evidence")})
        check_pointers(name, predicate, counted.digests | cited.digests(custody, archive, events))
    else:
        for member in ("control", "licence"):
            del again["framework"][member]
        copies = rows["archive"]["copies"] if archive else None
        kinds = [(event, cited.ledger.events[event]["kind"]) for event in events]
        found = kit_controls.Found(counted.rows, counted.entries, custody, copies, kinds, "custodians" in again, made)
        controls, again["evidence"] = kit_controls.again(framework, found)
        again["controls"] = kit_controls.as_stated(controls, predicate["controls"])
    words = {}
    for control in again["controls"]:
        word = control.get("result", control["state"])
        words[word] = words.get(word, 0) + 1
    again["counts"] = words
    subjects = [{"digest": {"sha256": row["archive"][7:]}, "name": "%s.pef.zip" % row["run"]} for row in counted.rows]
    whole = {"_type": STATEMENT, "predicate": again, "predicateType": ATTESTATION, "subject": subjects}
    place = kit_cited.difference(statement, whole)
    if place is not None:
        raise Refused("ATTESTATION_MISMATCH", "%s: %s is not what the bundles give" % (name, place))
    digest = "sha256:" + sha256(data)
    check_copies(kit, folder, digest, statement, payload)
    row = {"counts": words, "digest": digest, "framework": again["framework"]["id"], "path": name}
    return row, key["kid"]


def check_copies(kit, folder, digest, statement, payload):
    """The OSCAL copy is made again; the page has its form, its digests and its numbers."""
    results = kit_cited.written(kit_oscal.Copy(statement, digest).made()).encode()
    if kit.read(folder + "/assessment-results.json") != results:
        raise Refused("ATTESTATION_COPY", "%s/assessment-results.json is not what the statement gives" % folder)
    try:
        kit_page.check(kit.read(folder + "/attestation.pdf"), digest, statement, payload)
    except (kit_page.Other, ValueError) as wrong:
        raise Refused("ATTESTATION_COPY", "%s/attestation.pdf: %s" % (folder, wrong)) from None


def check_pointers(name, predicate, there):
    """What of evidence can be looked at without its framework."""
    for row in predicate["evidence"]:
        for digest in row["listed"]:
            if digest not in there:
                raise Refused("ATTESTATION_MISMATCH", "%s points at %s, which is nowhere" % (name, digest))
        if row["count"] != len(row["listed"]) + row["more"]:
            raise Refused("ATTESTATION_MISMATCH", "%s: %s are miscounted" % (name, row["kind"]))


def check(kit, root, trust, signer):
    schemas = pef_verify.find_schemas()
    within(kit.bytes, KIT_MAX, "bytes")
    if INDEX not in kit:
        raise Refused("KIT_MISSING", "there is no %s" % INDEX)
    statement, payload, key = read_statement(schemas, kit.read(INDEX), INDEX, KIT, "KIT_FORM")
    kid = key["kid"]
    if signer is not None and pef_verify.Key(signer).kid != kid:
        raise Refused("ATTESTATION_UNTRUSTED", "the kit is signed by key %s" % kid)
    compare(kit, statement)
    if trust is not None and (TRUST not in kit or kit.read(TRUST) != trust):
        raise Refused("KIT_TRUST", "the trust document of the kit is not the one that you gave")
    counted = Counted()
    check_bundles(kit, root, counted)
    cited, rows = Cited(kit, schemas, counted), []
    for framework in kit.names:
        if framework.startswith("frameworks/"):
            folder = "attestations/" + framework[len("frameworks/") : -len(".toml")]
            name = folder + "/attestation.json"
            row, by = check_attestation(kit, schemas, folder, counted, cited)
            if signer is not None and pef_verify.Key(signer).kid != by:
                raise Refused("ATTESTATION_UNTRUSTED", "%s is signed by key %s" % (name, by))
            rows.append(row)
    rows.sort(key=lambda row: row["path"])
    summary = {"attestations": rows, "counters": counted.counters, "inventory": counted.names(), "runs": counted.rows}
    summary.update(cited.summary, trace=counted.trace())
    tool = statement["predicate"].get("tool")
    if not is_tool(tool):
        raise Refused("KIT_FORM", "it does not state its program")
    if kid in counted.keys:
        raise Refused("KEY_INVALID", "the kit is signed by a key of its evidence")
    again = {
        "_type": STATEMENT,
        "predicate": {"key": key, "summary": summary, "tool": tool, "v": "kit/v0"},
        "predicateType": KIT,
        "subject": [{"digest": {"sha256": sha256(kit.read(name))}, "name": name} for name in kit.names if name != INDEX],
    }
    if pef_verify.canonical(again) != payload:
        stated = statement["predicate"].get("summary")
        differs = [name for name in summary if not isinstance(stated, dict) or stated.get(name) != summary[name]]
        raise Refused("KIT_SUMMARY", "the statement is not what the contents give: %s" % (", ".join(differs) or "its form"))
    return summary, kid, cited.unmade


def verify(path, trust=None, signer=None):
    """-> (summary, key id, whether controls were not made again); raises Refused."""
    if os.path.isdir(path):
        return check(Folder(path), path, trust, signer)
    with tempfile.TemporaryDirectory() as into:
        unpack(path, into)
        return check(Folder(into), into, trust, signer)


def main(argv):
    parser = argparse.ArgumentParser(description="Verifies a kit, offline.")
    parser.add_argument("kit", nargs="?", default=HERE)
    parser.add_argument("--trust")
    parser.add_argument("--signer")
    asked = parser.parse_args(argv)
    try:
        trust = None if asked.trust is None else open(asked.trust, "rb").read()
        signer = None if asked.signer is None else pef_verify.read_public_key(open(asked.signer, "rb").read()).spki
        summary, kid, unmade = verify(asked.kit, trust, signer)
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as wrong:  # a signed statement without what its kind has
        print("REFUSED KIT_FORM: a statement has not the form of its kind (%s: %s)" % (type(wrong).__name__, pef_verify._shown(str(wrong), 200)))
        return 2
    except (Refused, kit_cited.Wrong) as wrong:
        print("REFUSED %s: %s" % (wrong.code, pef_verify._shown(str(wrong.detail), 1000)))
        return 6 if wrong.code in UNDECIDED else 2
    except (OSError, pef_verify.Unreadable) as wrong:
        print("UNDECIDED FILE_UNREADABLE: %s" % wrong)
        return 6
    counters = summary["counters"]
    print("kit          holds: %d runs, %d attestations" % (len(summary["runs"]), len(summary["attestations"])))
    print("calls        %(calls)d (%(allow)d allow, %(repair)d repair, %(hold)d hold, %(block)d block)" % counters)
    for row in summary["attestations"]:
        told = ", ".join("%d %s" % (row["counts"][word], word.replace("_", " ")) for word in sorted(row["counts"]))
        print("attestation  %s: %s" % (row["framework"], told))
    for row in summary["certificates"]:
        print("replay       %(status)s, %(mode)s, run %(run)s" % row)
    for row in summary["regress"]:
        print("regress      %(same)d same, %(changed)d changed, %(undecided)d undecided by policy %(policy_hash)s" % row)
    for row in summary.get("custody", []):
        print("custody      %(head)s of run %(run)s, %(entries)d entries" % row)
        if "failed" in row:
            told, last = (row["failed"]["count"], row["actions"]["verified"], row["run"]), row["failed"]["listed"][-1]
            print("FAILED       %d of %d verifications of run %s by custodians" % told + ", last on %s: " % last["ts"], end="")
            print(last.get("reason") or last.get("found") or "a verdict is none that passes")
    for row in summary.get("archive", {}).get("copies", []):
        print("copy         %s %s, %s until %s" % tuple(json.dumps(row[name]) for name in ("bucket", "key", "mode", "retain_until")))
    if "ledger" in summary:
        print("ledger       %(head)s of %(events)d events, begins with %(genesis)s" % summary["ledger"])
    print("signed by    %s" % kid)
    if summary["regress"]:
        print("note         calls of regress were not judged again; `estoppel kit verify --deep` does that, by the policies in the kit")
    if unmade:
        print("note         controls were not made again, which takes Python 3.11; `estoppel kit verify` makes them again")
    if asked.trust is None:
        print("note         the kit brings its trust document itself; give --trust to bind it to keys that you know")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
