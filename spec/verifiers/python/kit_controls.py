"""Makes the controls, the evidence and the counts of an attestation again (spec/attestation.md), from that page alone. For kit_verify.py;
frameworks are TOML, so Python 3.11 or later, nothing else."""

import datetime

import pef_verify

try:
    import tomllib
except ImportError:  # Python 3.9 and 3.10
    tomllib = None

LISTED_MAX = 16
DOTS_MAX = 10**7  # squares of dots in a line, summed: what names of many parts cost a reader of TOML
REFUSED = (
    "API_KEY_INVALID CONTEXT_UNSIGNED CREDENTIAL_MISSING IDENTITY_REQUIRED IDENTITY_REVOKED SCOPE_MISSING TOKEN_AUDIENCE"
    " TOKEN_EXPIRED TOKEN_INVALID"
).split()


def at(entry, path):
    for step in path.split("."):
        entry = entry.get(step) if isinstance(entry, dict) else None
    return entry


def states(call):
    return [at(call, "evaluated.%s.state" % side) for side in ("request", "response")]


def anonymous(call):
    return at(call, "identity.kind") in (None, "none")


def blocked(call):
    return at(call, "verdict.action") == "block"


CALLS = {
    "anonymous_calls": lambda call: anonymous(call) and not blocked(call),
    "authenticated_calls": lambda call: not anonymous(call),
    "blocked_calls": blocked,
    "calls": lambda call: True,
    "destinations": lambda call: "destination" in call,
    "evaluated_calls": lambda call: "not_evaluated" not in states(call),
    "found_data": lambda call: bool(call.get("data_class") or at(call, "ext.findings")),
    "held_calls": lambda call: at(call, "verdict.action") == "hold" or "hold" in call or "approval" in call,
    "judged_calls": lambda call: "judged" in states(call),
    "limited_calls": lambda call: bool(call.get("limits")),
    "model_calls": lambda call: at(call, "facts.model") is not None,
    "refused_callers": lambda call: at(call, "outcome.code") in REFUSED,
    "repaired_calls": lambda call: at(call, "verdict.action") == "repair",
    "shadow_calls": lambda call: bool(call.get("shadow")),
    "stored_bodies": lambda call: at(call, "body.mode") == "full",
    "threat_calls": lambda call: bool(at(call, "threat.ids")),
    "tool_calls": lambda call: bool(at(call, "facts.tools_called")),
    "unenforced_calls": lambda call: at(call, "verdict.mode") != "enforce",
    "unevaluated_calls": lambda call: "not_evaluated" in states(call) and not blocked(call),
    "unexplained_blocks": lambda call: blocked(call) and at(call, "verdict.reason") is None and at(call, "outcome.code") in (None, "OK"),
    "usage": lambda call: at(call, "facts.usage") is not None,
    "withheld_bodies": lambda call: at(call, "body.mode") != "full",
}
ENTRIES = {
    "approvals": ("approval",),
    "bypasses": ("bypass",),
    "key_rotations": ("key.rotate",),
    "lapses": ("gap", "interrupted", "journal.recover"),
    "missing_receipts": ("bypass", "gap", "interrupted"),
    "operator_acts": ("act",),
    "policy_loads": ("policy.load",),
    "seals": ("run.seal",),
}
DOCUMENTS = {
    "contracts": ("contract.request.digest", "contract.response.digest"),
    "policies": ("policy.hash",),
    "snapshots": ("snapshot.pre.digest", "snapshot.post.digest"),
}
EVENTS = {
    "evolutions": ("evolution.finished",),
    "generations": ("generation.sealed", "generation.amended"),
    "promotions": ("promotion.finished",),
    "refused_promotions": ("promotion.refused",),
    "release_approvals": ("approval.given",),
    "role_changes": ("roles.set",),
    "rollbacks": ("rollback.done",),
    "waivers": ("approval.waiver",),
}
# What a check looks at, and what there may not be.
CHECKS = {
    "bodies_are_withheld": ("calls", "stored_bodies"),
    "callers_are_known": ("calls", "anonymous_calls"),
    "calls_have_receipts": ("calls", "missing_receipts"),
    "evidence_is_intact": ("bundles", "untrusted_bundles"),
    "policy_is_enforced": ("calls", "unenforced_calls"),
    "seals_are_anchored": ("bundles", "unanchored_bundles"),
    "seals_are_linked": ("bundles", "unlinked_bundles"),
    "traffic_is_evaluated": ("calls", "unevaluated_calls"),
}
DAYS = {"evidence_of_12_months": 365, "evidence_of_6_years": 2192, "kept_for_12_months": 365, "kept_for_6_years": 2192}


def moment(text):
    """Microseconds; times of PEF have one form."""
    then = datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=datetime.timezone.utc)
    since = then - datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
    return (since.days * 86400 + since.seconds) * 1000000 + since.microseconds


class Found:
    """What there is of each kind: digests, in order."""

    def __init__(self, runs, entries, custody, archive, events, vouched, made):
        """`runs`: rows as a statement has them, in order; `entries`: by run, (entry hash, entry) in order; `custody`: by run, lists;
        `archive`: copies as a statement has them, or None; `events`: (id, kind) in order; `vouched`: whether custodians are trusted."""
        self.runs, self.entries, self.made, self.events = runs, entries, moment(made), events
        self.custody = [(run["run"], custody[run["run"]]) for run in runs if run["run"] in custody]
        self.archive, self.vouched, self.known = archive, vouched, {}

    def kind(self, name):
        if name not in self.known:
            self.known[name] = list(self.look(name))
        return self.known[name]

    def look(self, name):
        every = [one for run in self.runs for one in self.entries[run["run"]]]
        if name.startswith("threats:"):
            ids = set(name[len("threats:") :].split(","))
            return [leaf for leaf, entry in every if ids & set(at(entry, "threat.ids") or ())]
        if name in CALLS:
            return [leaf for leaf, entry in every if entry["kind"] == "call" and CALLS[name](entry)]
        if name in ENTRIES:
            return [leaf for leaf, entry in every if entry["kind"] in ENTRIES[name]]
        if name in DOCUMENTS:
            calls = [entry for _, entry in every if entry["kind"] == "call"]
            return sorted({at(call, path) for call in calls for path in DOCUMENTS[name]} - {None})
        if name in EVENTS:
            return [event for event, kind in self.events if kind in EVENTS[name]]
        if name in ("custody_entries", "disclosures"):
            acts = [pair for _, chain in self.custody for pair in zip(chain.leaves(), chain.entries)]
            return [leaf for leaf, act in acts if name == "custody_entries" or act["action"] == "disclosed"]
        if name == "archived_copies":
            return [copy["entry"] for copy in self.archive or ()]
        return [run["manifest"] for run in self.runs if self.bundle(name, run)]

    def bundle(self, name, run):
        verdicts = run["verdicts"]
        return {
            "anchored_bundles": verdicts["anchoring"] == "anchored",
            "bundles": True,
            "unanchored_bundles": verdicts["anchoring"] != "anchored",
            "unlinked_bundles": name == "unlinked_bundles" and not self.linked(run),
            "unlocked_bundles": self.archive is not None and not self.locked(run),
            "untrusted_bundles": verdicts["authenticity"] != "trusted",
        }[name]

    def names(self, run):
        """The seal before a run."""
        opened = [entry for _, entry in self.entries[run["run"]] if entry["kind"] == "run.open"]
        return opened[0].get("previous_seal") if opened else None

    def linked(self, run):
        first = next(other for other in self.runs if other["iss"] == run["iss"])
        seals = {leaf for other in self.runs for leaf, entry in self.entries[other["run"]] if entry["kind"] == "run.seal"}
        return self.names(run) == self.names(first) or self.names(run) in seals

    def copies(self, run):
        return [copy for copy in self.archive or () if self.vouched and copy["run"] == run["run"] and "signed" in copy]

    def locked(self, run):
        return any(copy["legal_hold"] or moment(copy["retain_until"]) > self.made for copy in self.copies(run))

    def kept(self, run, days):
        until = moment(run["sealed"]) + days * 86400 * 1000000
        return any(copy["mode"] == "COMPLIANCE" and moment(copy["retain_until"]) >= until for copy in self.copies(run))

    def row(self, name):
        digests = self.kind(name)
        hashes = [bytes.fromhex(digest.partition(":")[2]) for digest in digests]
        root = "root:" + pef_verify.tree_root(hashes).hex() if hashes else None
        return {"count": len(digests), "kind": name, "listed": digests[:LISTED_MAX], "more": len(digests[LISTED_MAX:]), "root": root}


def judged(found, name):
    """A check. -> (result, the member that says why, its value or None for words that are the signer's)"""
    if name in DAYS:
        result = both(found, "bundles", "unlinked_bundles")
        if result[0] != "pass":
            return result
        age = (found.made - min(moment(run["opened"]) for run in found.runs)) // (86400 * 1000000)
        kept = name.startswith("kept") and all(found.kept(run, DAYS[name]) for run in found.runs)
        return ("pass",) if age >= DAYS[name] or kept else ("not_assessed", "why", None)
    if name == "blocks_are_explained":
        result = both(found, "blocked_calls", "unexplained_blocks")
        return ("not_assessed", "why", None) if result[1:2] == ("lacks",) else result
    if name == "copies_are_locked":
        return both(found, "archived_copies", "unlocked_bundles") if found.archive is not None else ("not_assessed", "why", None)
    return both(found, *CHECKS[name])


def both(found, needs, never):
    if not found.kind(needs):
        return ("fail", "lacks", needs)
    return ("fail", "against", never) if found.kind(never) else ("pass",)


def check_rows(found, names):
    rows = []
    for name in names:
        result, *why = judged(found, name)
        row = {"check": name, "result": result}
        if why:
            row[why[0]] = why[1]
        rows.append(row)
    return rows


def again(framework, found):
    """-> (controls, evidence); in checks that are not assessed `why` is None, as the words are the signer's."""
    controls, pointed = [], set()
    for control in framework["control"]:
        kinds = list(control.get("evidence", []))
        if control.get("threats"):
            kinds.append("threats:" + ",".join(control["threats"]))
        pointed.update(kinds)
        there = [found.row(kind) for kind in kinds if found.kind(kind)]
        row = {
            "about": control["about"],
            "evidence": [{name: one[name] for name in ("count", "kind", "root")} for one in there],
            "id": control["id"],
            "state": "evidence" if there else "no_evidence",
        }
        if framework["kind"] == "assessment":
            row["checks"] = check_rows(found, control.get("checks", []))
            pointed.update(check["against"] for check in row["checks"] if "against" in check)
            results = [check["result"] for check in row["checks"]]
            row["result"] = "fail" if "fail" in results else "pass" if results and set(results) == {"pass"} else None
            row["result"] = row["result"] or ("not_assessed" if there else "no_evidence")
        controls.append(row)
    return controls, [found.row(kind) for kind in sorted(pointed, key=str.encode) if found.kind(kind)]


def as_stated(controls, stated):
    """The same controls; in checks that are not assessed `why` is as it was stated, where words were."""
    for control, said in zip(controls, stated):
        for check, words in zip(control.get("checks", []), said.get("checks", [])):
            if "why" in check:
                check["why"] = words.get("why")
    return controls


def framework(data):
    """A framework's file, or None where this Python cannot read TOML. Raises ValueError or RecursionError."""
    if tomllib is None:
        return None
    text = data.decode("utf-8-sig")
    if sum(line.count(".") ** 2 for line in text.split("\n")) > DOTS_MAX:
        raise ValueError("a line has too many dots")
    return tomllib.loads(text)
