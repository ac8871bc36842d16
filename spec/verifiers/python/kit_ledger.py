"""Steps E7 to E9 of spec/ledger.md, written from that page alone, over events of which E2 to E6 hold. For kit_cited.py; Python 3.9 or
later, nothing else."""

import heapq
import re

from kit_controls import moment

STAGES = ("alpha", "beta", "rc", "final")
ALWAYS = {"all_changes_proven", "candidate", "contract_sealed", "integration_at_candidate", "no_failed"}
FROM_ALPHA = {"evidence_bundle", "policy_hash", "regress", "replay_certificate"}  # unless the gate itself says from when on
FROM_FINAL = {"approvals", "freeze_window", "min_evolutions", "perf_budget", "proof_max_age"}
WAIVABLE = {
    "freeze_window",
    "hotfix_forward_ported",
    "min_evolutions",
    "no_failed",
    "perf_budget",
    "proof_max_age",
    "regress",
    "replay_certificate",
    "soak",
}
HOUR = 3600 * 10**6  # microseconds


class Conflict(Exception):
    def __init__(self, event, detail, code="LEDGER_CONFLICT"):
        super().__init__(detail)
        self.code, self.detail = code, "%s %s: %s" % (event["kind"], event["id"], detail)


def demand(holds, event, detail, code="LEDGER_CONFLICT"):
    if not holds:
        raise Conflict(event, detail, code)


def ordered(events):
    """Each after its parents; among those that could come next the earlier one, then the smaller id. `events`: by id."""
    left = {name: len(event["parents"]) for name, event in events.items()}
    after = {name: [] for name in events}
    for name, event in events.items():
        for parent in event["parents"]:
            after[parent].append(name)
    ready = [(events[name]["at"], name) for name, count in left.items() if count == 0]
    heapq.heapify(ready)
    done = []
    while ready:
        _, name = heapq.heappop(ready)
        done.append(events[name])
        for child in after[name]:
            left[child] -= 1
            if left[child] == 0:
                heapq.heappush(ready, (events[child]["at"], child))
    return done


class History:
    """Events in their order. `digest`: of the canonical form of a value, `sha256:…`; `sha256`: of bytes."""

    def __init__(self, events, digest, sha256):
        self.by_id, self.events = events, ordered(events)
        self.digest, self.sha256 = digest, sha256
        self.has_environments = any(event["kind"] in ("environment.set", "promotion.finished") for event in self.events)

    def check(self):
        facts = Facts(self.digest)
        for event in self.events:
            facts.add(event)
            if event["kind"] in ("promotion.finished", "stage.promoted"):
                Promotion(self, event).check()
            elif event["kind"] in ("generation.amended", "generation.abandoned"):
                released = [one["body"]["version"] for one in self.past(event) if one["kind"] == "promotion.finished"]
                demand(event["body"]["version"] not in released, event, "its version was promoted before")
            elif event["kind"] == "environment.set":
                self.check_environment(event)
            elif event["kind"] == "rollback.done" and self.has_environments:
                self.check_rollback(event)

    def ids_before(self, event):
        found, todo = set(), list(event["parents"])
        while todo:
            name = todo.pop()
            if name not in found:
                found.add(name)
                todo += self.by_id[name]["parents"]
        return found

    def past(self, event):
        """The events that one follows, directly or not, in their order."""
        before = self.ids_before(event)
        return [one for one in self.events if one["id"] in before]

    def beside(self, event, among):
        """Those of some events that neither follow one nor are followed by it."""
        before = self.ids_before(event)
        after = {event["id"]}
        for one in among:  # in their order, so that what follows is found before what follows that
            if after & set(one["parents"]):
                after.add(one["id"])
        return [one for one in among if one["id"] not in before and one["id"] not in after]

    def check_environment(self, event):
        body, before = event["body"], self.past(event)
        roles = [one["body"] for one in before if one["kind"] == "roles.set"][-1]
        lowest = roles.get("environments", {}).get(body["environment"], "final")
        promoted = [one for one in before if one["id"] == body["promoted"] and one["kind"] in ("promotion.finished", "stage.promoted")]
        fits = promoted and all(promoted[0]["body"][name] == body[name] for name in ("commit", "tag", "version"))
        demand(fits, event, "it does not have what was promoted")
        stage = promoted[0]["body"].get("stage", "final")
        demand(STAGES.index(stage) >= STAGES.index(lowest), event, "the environment takes no %s" % stage)
        kinds = {one["kind"] for one in before if one["body"].get("version") == body["version"]}
        demand("generation.abandoned" not in kinds or "promotion.finished" in kinds, event, "its version was abandoned")
        back = any(one["kind"] == "rollback.done" and one["body"]["from"] == body["version"] for one in before)
        demand(not back, event, "its version was taken back")

    def check_rollback(self, event):
        body, standing, released = event["body"], {}, set()
        for one in self.past(event):
            said = one["body"]
            if one["kind"] == "promotion.finished":
                released.add(said["version"])
            elif one["kind"] == "environment.set":
                standing[said["environment"]] = (said["version"], one["id"])
            elif one["kind"] == "rollback.done":
                released.discard(said["from"])
                standing.update({name: (said["to"], one["id"]) for name in said.get("environments", {})})
        had = {name: by for name, (version, by) in standing.items() if version == body["from"]}
        demand(had == body.get("environments", {}), event, "other environments had the version")
        fits = body["from"] != body["to"] and {body["from"], body["to"]} <= released
        demand(fits, event, "its versions are not two that are promoted")


class Facts:
    """E7 and E8: what no two events say differently."""

    def __init__(self, digest):
        self.digest = digest
        self.contracts, self.started, self.environments = {}, {}, {}
        self.ended, self.promoted, self.staged, self.tags = set(), set(), set(), set()

    def add(self, event):
        kind, body = event["kind"], event["body"]
        if kind in ("generation.sealed", "generation.amended"):
            follows = self.contracts.get(body["version"]) == body.get("from")
            demand(follows, event, "its version has another contract")
            self.contracts[body["version"]] = body["contract"]
            if kind == "generation.amended":
                self.staged = {(version, of) for version, of in self.staged if version != body["version"]}
            demand(self.digest(body["document"]) == body["contract"], event, "its contract is another document", "LEDGER_EVENT_INVALID")
        elif kind == "evolution.started":
            demand(body["evolution"] not in self.started, event, "the evolution began before")
            self.started[body["evolution"]] = body
        elif kind == "evolution.finished":
            began = self.started.get(body["evolution"], {})
            as_begun = all(began.get(name) == body[name] for name in ("commit", "contract", "version"))
            demand(as_begun, event, "no evolution began so")
            self.once(event, self.ended, body["evolution"])
        elif kind == "promotion.finished":
            self.once(event, self.promoted, body["version"])
        elif kind == "stage.promoted":
            self.once(event, self.staged, (body["version"], body["promotion"]))
        elif kind == "environment.set":
            self.has(event, body["environment"], body.get("previous"))
        elif kind == "rollback.done":
            for name, previous in body.get("environments", {}).items():
                self.has(event, name, previous)
        self.tag(event)

    def once(self, event, seen, value):
        demand(value not in seen, event, "%s comes twice" % (value,))
        seen.add(value)

    def has(self, event, name, previous):
        demand(self.environments.get(name) == previous, event, "environment %s has something else" % name)
        self.environments[name] = event["id"]

    def tag(self, event):
        kind, body = event["kind"], event["body"]
        if "tag" not in body or kind == "environment.set":
            return
        if kind == "promotion.finished":
            own = body["tag"] == "v" + body["version"]
        elif kind == "rollback.done":
            own = body["tag"] == "rollback/v" + body["from"]
        else:
            stage = body.get("stage", "rc")  # an evolution gives a candidate away
            joint = "." if "-" in body["version"] else "-"
            form = re.escape("v%s%s%s." % (body["version"], joint, stage)) + "(0|[1-9][0-9]*)"
            own = body.get("result", "PASSED") == "PASSED" and re.fullmatch(form, body["tag"])
        demand(own, event, "it gives a tag of another name away", "LEDGER_EVENT_INVALID")
        if kind != "stage.promoted" or body["stage"] != "rc":
            self.once(event, self.tags, body["tag"])


class Promotion:
    """What E9 asks of an event that promotes, of those that it follows."""

    def __init__(self, history, event):
        self.history, self.event, self.body = history, event, event["body"]
        self.version, self.at = self.body["version"], moment(event["at"])
        self.stage = self.body.get("stage", "final")
        self.before = history.past(event)
        self.own = [one for one in self.before if one["body"].get("version") == self.version]
        self.keys = [one["body"]["keys"] for one in self.before if one["kind"] == "roles.set"][-1]
        self.contract = self.in_force()
        self.document = self.contract["document"]
        self.gates = self.document.get("gates", {})
        self.ladder = self.document.get("stages", [])
        self.authors = {one["actor"] for one in self.own if one["kind"] in ("generation.sealed", "generation.amended")}
        author = self.document.get("author", {})
        self.names = {self.keys[key]["name"] for key in self.authors if key in self.keys} | {author.get("name")}
        if author.get("key") in self.keys:
            self.names.add(self.keys[author["key"]]["name"])
        self.authors.add(author.get("key"))

    def demand(self, holds, detail):
        demand(holds, self.event, detail)

    def in_force(self):
        contract, sealed = None, False
        for one in self.own:
            if one["kind"] in ("generation.sealed", "generation.amended"):
                contract, sealed = one["body"], sealed or one["kind"] == "generation.sealed"
            elif one["kind"] in ("generation.abandoned", "promotion.finished"):
                sealed = False
        self.demand(sealed, "its version is not sealed, or settled")
        self.demand(contract["contract"] == self.body["contract"], "another contract is in force")
        return contract

    def may(self, event, role):
        return role in self.keys.get(event["actor"], {"roles": ()})["roles"]

    def of_this(self, event):
        return all(event["body"][name] == self.body[name] for name in ("commit", "contract"))

    def is_by_another(self, event):
        """By an approver who is no author."""
        other = event["actor"] not in self.authors and self.may(event, "approver")
        return other and self.keys[event["actor"]]["name"] not in self.names

    def holds_at(self, gate, otherwise):
        return STAGES.index(gate.get("from", otherwise)) <= STAGES.index(self.stage)

    def check(self):
        lines = [self.version, self.body["contract"], self.body["commit"]] + ([self.stage] if self.stage != "final" else [])
        named = self.history.sha256("".join(line + "\n" for line in lines).encode())
        self.demand(self.body["promotion"] == named, "`promotion` is of something else")
        self.find_amendments()
        self.runs = [one for one in self.own if one["kind"] == "evolution.finished"]
        self.good = [one for one in self.runs if one["body"]["result"] == "PASSED" and self.may(one, "runner")]
        self.check_changes()
        self.check_people()
        soaked = self.check_stage()
        if self.document.get("generation") == 1:
            self.check_gates(soaked)

    def find_amendments(self):
        self.amended, self.altering, known = [], {}, {}
        for one in self.own:
            if one["kind"] not in ("generation.sealed", "generation.amended"):
                continue
            if one["kind"] == "generation.amended":
                self.amended.append(one["id"])
                for change in {change for change, _ in set(known.items()) ^ set(one["body"]["changes"].items())}:
                    self.altering.setdefault(change, []).append(one["id"])
            known = one["body"]["changes"]
        self.starts = {one["body"]["evolution"]: one for one in self.own if one["kind"] == "evolution.started"}

    def is_since(self, event, amendments):
        """Whether it follows these, so that it has not lapsed."""
        return not amendments or set(amendments) <= self.history.ids_before(event)

    def is_run_since(self, run, amendments):
        start = self.starts.get(run["body"]["evolution"])
        return not amendments or (start is not None and self.is_since(start, amendments))

    def check_changes(self):
        changes = set(self.contract["changes"]) | {change["id"] for change in self.document.get("changes", [])}
        for change in sorted(changes):
            latest = [run for run in self.runs if change in run["body"]["changes"]][-1:]
            proven = latest and any(run is latest[0] for run in self.good)
            proven = proven and latest[0]["body"]["changes"][change] == self.contract["changes"].get(change)
            proven = proven and self.is_run_since(latest[0], self.altering.get(change))
            self.demand(proven and self.shows(latest[0], change), "change %s is not proven" % change)
        self.good = [run for run in self.good if self.is_run_since(run, self.amended)]
        whole = [run for run in self.good if self.of_this(run) and "tag" in run["body"] and changes <= set(run["body"]["changes"])]
        whole = [run for run in whole if self.stage != "rc" or run["body"]["tag"] == self.body["tag"]]
        self.demand(any(self.shows(run, None) for run in whole), "no evolution of all of it passed here")

    def shows(self, run, change):
        """Whether a run passed every step that a change is proven by; of all where it is None."""
        if self.document.get("generation") != 1:
            return True
        steps = {step["id"]: step for step in self.document["steps"]}
        proves = lambda step: change is None or step["proves"] == "all" or change in step["proves"]
        todo, wanted = [name for name, step in steps.items() if proves(step)], set()
        while todo:
            name = todo.pop()
            if name not in wanted:
                wanted.add(name)
                todo += steps[name].get("needs", [])
        passed = {(step["id"], step["kind"]) for step in run["body"]["steps"] if step["outcome"] == "passed"}
        return {(name, steps[name]["kind"]) for name in wanted} <= passed

    def check_people(self):
        gate = self.gates.get("approvals", {})
        if "count" not in gate or not self.holds_at(gate, "final"):
            return
        people = set()
        for one in self.own:
            if one["kind"] != "approval.given" or not self.of_this(one) or not self.is_by_another(one):
                continue
            if not self.is_since(one, self.amended):
                continue
            is_young = "hours_max" not in gate or moment(one["at"]) + gate["hours_max"] * HOUR >= self.at
            if is_young and moment(one["body"]["expires"]) > self.at:
                people.add(self.keys[one["actor"]]["name"])
        self.demand(len(people) >= gate["count"], "%d people approved it, and not %d" % (len(people), gate["count"]))

    def is_waived(self, gate):
        if gate not in WAIVABLE and not gate.startswith("command:"):
            return False
        if gate in self.document.get("hotfix", {}).get("skips", []):
            return True
        waivers = [one for one in self.own if one["kind"] == "approval.waiver" and one["body"]["gate"] == gate and self.of_this(one)]
        waivers = [one for one in waivers if self.is_since(one, self.amended)]
        return any(moment(one["body"]["expires"]) > self.at and self.is_by_another(one) for one in waivers)

    def below(self):
        """The stage before it, or None."""
        lower = [row for row in self.ladder if STAGES.index(row["stage"]) < STAGES.index(self.stage)]
        return lower[-1] if lower else None

    def check_stage(self):
        """-> whether it has been at the stage before it for long enough"""
        known = self.stage == "final" or self.stage in [row["stage"] for row in self.ladder]
        self.demand(known, "%s is no stage of its contract" % self.stage)
        rung = self.below()
        if rung is None:
            return True
        reached = [one for one in self.own if one["kind"] == "stage.promoted" and one["body"]["stage"] == rung["stage"]]
        reached = [one for one in reached if self.of_this(one) and self.may(one, "releaser") and self.is_since(one, self.amended)]
        self.demand(reached, "it was not at %s" % rung["stage"])
        since = max(moment(one["at"]) for one in [reached[0], *self.history.beside(reached[0], self.before)])
        soaked = since + rung.get("soak_hours", 0) * HOUR <= self.at
        self.demand(soaked or self.is_waived("soak"), "it was not at %s for long enough" % rung["stage"])
        return soaked

    def check_gates(self, soaked):
        scope = self.gates.get("no_failed", {}).get("scope")
        windows = self.gates.get("freeze_window", {}).get("windows", [])
        enough = sum(run["body"]["contract"] == self.body["contract"] for run in self.good)
        counted = {
            "freeze_window": not any(second(window["from"]) <= self.at < second(window["to"]) for window in windows),
            "hotfix_base": "hotfix" in self.document and self.mends(self.document["hotfix"]["base"]),
            "min_evolutions": enough >= self.gates.get("min_evolutions", {}).get("count", 0),
            "no_failed": scope != "ever" or all(run["body"]["result"] == "PASSED" for run in self.runs),
            "soak": soaked,
        }
        rows = self.body["gates"]
        for row in rows:
            fits = counted.get(row["gate"], True) if row["state"] == "pass" else row["state"] == "waived" and self.is_waived(row["gate"])
            self.demand(fits, "gate %s is not %s" % (row["gate"], row["state"]))
        lacking = self.asked() - {row["gate"] for row in rows}
        self.demand(not lacking, "it says nothing of the gates %s" % ", ".join(sorted(lacking)))

    def asked(self):
        names = {name for name in FROM_ALPHA & set(self.gates) if self.holds_at(self.gates[name], "alpha")}
        names |= {name for name in FROM_FINAL & set(self.gates) if self.holds_at(self.gates[name], "final")}
        names |= {"command:" + gate["id"] for gate in self.gates.get("commands", []) if self.holds_at(gate, "alpha")}
        rung = self.below()
        names |= set() if rung is None else {"stage_before"}
        names |= {"soak"} if rung is not None and rung.get("soak_hours") else set()
        names |= {"hotfix_base"} if "hotfix" in self.document else set()
        names |= {"hotfix_forward_ported"} if any(is_lower(one, self.version) for one in self.hotfixes()) else set()
        return names | ALWAYS

    def mends(self, base):
        """Whether this is a later patch of a version that was promoted."""
        if "-" in self.version + base:
            return False
        line, of_base = numbers(self.version), numbers(base)
        promoted = any(one["kind"] == "promotion.finished" and one["body"]["version"] == base for one in self.before)
        return promoted and line[:2] == of_base[:2] and line[2] > of_base[2]

    def hotfixes(self):
        """Those that were promoted and not taken back."""
        documents, found = {}, set()
        for one in self.before:
            body = one["body"]
            if one["kind"] in ("generation.sealed", "generation.amended"):
                documents[body["version"]] = body["document"]
            elif one["kind"] == "promotion.finished":
                document = documents.get(body["version"], {})
                found |= {body["version"]} if document.get("generation") == 1 and "hotfix" in document else set()
            elif one["kind"] == "rollback.done":
                found.discard(body["from"])
        return found


def second(text):
    """Microseconds, of a time as contracts write it: with whole seconds."""
    return moment(text[:-1] + ".000000Z")


def numbers(version):
    return [int(part) for part in version.partition("-")[0].split(".")]


def is_lower(hotfix, version):
    """A hotfix is no pre-release; a pre-release comes before its release."""
    return (numbers(hotfix), 1) < (numbers(version), 0 if "-" in version else 1)
