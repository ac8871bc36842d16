"""A reading of spec/ledger.md that shares no code with the product, on the published vectors."""

import base64
import datetime
import hashlib
import json
import pathlib
import re

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_der_public_key

SPEC = pathlib.Path(__file__).resolve().parents[2] / "spec"
FILES = (
    "ledger-vectors.json",
    "ledger-release-vectors.json",
    "ledger-ladder-vectors.json",
    "ledger-commit-vectors.json",
    "ledger-count-vectors.json",
    "ledger-lapse-vectors.json",
)
# Of two of one name that of the later file counts.
VECTORS = {vector["name"]: vector for name in FILES for vector in json.loads((SPEC / name).read_bytes())["vectors"]}
EVENT_TYPE = "application/vnd.estoppel.ledger.event.v0+json"
ROLES = {
    "roles.set": "owner",
    "generation.sealed": "author",
    "generation.amended": "author",
    "generation.abandoned": "author",
    "evolution.started": "runner",
    "evolution.finished": "runner",
    "approval.given": "approver",
    "approval.waiver": "approver",
    "promotion.started": "releaser",
    "promotion.refused": "releaser",
    "promotion.finished": "releaser",
    "rollback.done": "releaser",
    "stage.promoted": "releaser",
    "environment.set": "releaser",
}
STAGES = ("alpha", "beta", "rc", "final")
ALWAYS = {
    "contract_sealed",
    "candidate",
    "all_changes_proven",
    "integration_at_candidate",
    "no_failed",
}
SHOWN = {"evidence_bundle", "regress", "replay_certificate", "policy_hash"}
DECIDED = {
    "min_evolutions",
    "proof_max_age",
    "perf_budget",
    "approvals",
    "freeze_window",
}
WAIVABLE = {
    "freeze_window",
    "hotfix_forward_ported",
    "min_evolutions",
    "no_failed",
    "perf_budget",
}
WAIVABLE |= {"proof_max_age", "regress", "replay_certificate", "soak"}


class Refused(Exception):
    pass


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def pae(kind, body):
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(body), body)


def read(data):
    try:
        outer = json.loads(data)
        payload = base64.b64decode(outer["payload"], validate=True)
        event = json.loads(payload)
        whole = canonical(outer) == data and canonical(event) == payload
        whole &= outer["payloadType"] == EVENT_TYPE and len(outer["signatures"]) == 1 and event["v"] == 0
        whole &= outer["signatures"][0]["keyid"] == event["actor"] and event["kind"] in ROLES
        whole &= event["parents"] == sorted(set(event["parents"]))
        whole &= re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", event.get("stood_at", "0" * 40)) is not None
    except (ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise Refused("LEDGER_EVENT_INVALID")
    signature = base64.b64decode(outer["signatures"][0]["sig"], validate=True)
    return {**event, "id": digest(data), "payload": payload, "signature": signature}


def ordered(events):
    for event in events.values():
        for parent in event["parents"]:
            if parent not in events:
                raise Refused("LEDGER_PARENT_MISSING")
            if events[parent]["at"] > event["at"]:
                raise Refused("LEDGER_TIME")
    done, waiting = [], dict(events)
    while waiting:
        seen = {event["id"] for event in done}
        ready = [event for event in waiting.values() if seen.issuperset(event["parents"])]
        event = min(ready, key=lambda event: (event["at"], event["id"]))
        done.append(waiting.pop(event["id"]))
    return done


def check_actor(event, keys):
    person = keys.get(event["actor"])
    if person is None or ROLES[event["kind"]] not in person["roles"]:
        raise Refused("LEDGER_SIGNATURE")
    spki = base64.b64decode(person["spki"], validate=True)
    if hashlib.sha256(spki).hexdigest() != event["actor"]:
        raise Refused("LEDGER_EVENT_INVALID")
    try:
        load_der_public_key(spki).verify(event["signature"], pae(EVENT_TYPE, event["payload"]))
    except InvalidSignature:
        raise Refused("LEDGER_SIGNATURE") from None


def check(files, genesis):
    events = {}
    for path, data in files:
        name = hashlib.sha256(data).hexdigest()
        if path != f"events/{name[:2]}/{name[2:]}.json":
            raise Refused("LEDGER_ALTERED")
        event = read(data)
        events[event["id"]] = event
    events = ordered(events)
    roots = [event for event in events if not event["parents"]]
    if len(roots) != 1 or roots[0]["kind"] != "roles.set" or genesis not in (None, roots[0]["id"]):
        raise Refused("LEDGER_GENESIS")
    line, at = [], {}
    for event in events:
        before = max((at[parent] for parent in event["parents"]), default=-1)
        judge = line[before] if before >= 0 else event["body"]["keys"]
        check_actor(event, judge)
        at[event["id"]] = before
        if event["kind"] == "roles.set":
            if before != len(line) - 1:
                raise Refused("LEDGER_CONFLICT")
            line.append(event["body"]["keys"])
            at[event["id"]] = len(line) - 1
    check_facts(events)
    check_promotions(events)
    check_settled(events)
    check_environments(events)
    heads = {event["id"] for event in events} - {parent for event in events for parent in event["parents"]}
    return digest("".join(f"{head}\n" for head in sorted(heads)).encode())


def once(seen, value):
    if value in seen:
        raise Refused("LEDGER_CONFLICT")
    seen.add(value)


def check_tag(event, tags):
    kind, body = event["kind"], event["body"]
    if "tag" not in body or kind == "environment.set":
        return
    if kind == "evolution.finished":
        joint = "." if "-" in body["version"] else "-"
        name = re.escape(f"v{body['version']}{joint}rc.") + "(0|[1-9][0-9]*)"
        own = body["result"] == "PASSED" and re.fullmatch(name, body["tag"])
    elif kind == "stage.promoted":
        joint = "." if "-" in body["version"] else "-"
        name = re.escape(f"v{body['version']}{joint}{body['stage']}.") + "(0|[1-9][0-9]*)"
        own = body["stage"] in STAGES[:3] and re.fullmatch(name, body["tag"])
        if own and body["stage"] == "rc":
            return
    elif kind == "promotion.finished":
        own = body["tag"] == f"v{body['version']}"
    else:
        own = body["tag"] == f"rollback/v{body['from']}"
    if not own:
        raise Refused("LEDGER_EVENT_INVALID")
    once(tags, body["tag"])


def check_facts(events):
    contracts, started, environments = {}, {}, {}
    ended, promoted, staged, tags = set(), set(), set(), set()
    for event in events:
        kind, body = event["kind"], event["body"]
        if kind in ("generation.sealed", "generation.amended"):
            if contracts.get(body["version"]) != body.get("from"):
                raise Refused("LEDGER_CONFLICT")
            contracts[body["version"]] = body["contract"]
            if kind == "generation.amended":
                staged = {(version, of) for version, of in staged if version != body["version"]}
            if digest(canonical(body["document"])) != body["contract"]:
                raise Refused("LEDGER_EVENT_INVALID")
        elif kind == "evolution.started":
            if body["evolution"] in started:
                raise Refused("LEDGER_CONFLICT")
            started[body["evolution"]] = body
        elif kind == "evolution.finished":
            start = started.get(body["evolution"], {})
            if any(start.get(name) != body[name] for name in ("version", "contract", "commit")):
                raise Refused("LEDGER_CONFLICT")
            once(ended, body["evolution"])
        elif kind == "promotion.finished":
            once(promoted, body["version"])
        elif kind == "environment.set":
            if not re.fullmatch("[a-z0-9][a-z0-9._-]{0,63}", body["environment"]):
                raise Refused("LEDGER_EVENT_INVALID")
            if environments.get(body["environment"]) != body.get("previous"):
                raise Refused("LEDGER_CONFLICT")
            environments[body["environment"]] = event["id"]
        elif kind == "rollback.done":
            for name, previous in body.get("environments", {}).items():
                if environments.get(name) != previous:
                    raise Refused("LEDGER_CONFLICT")
                environments[name] = event["id"]
        elif kind == "stage.promoted":
            once(staged, (body["version"], body["promotion"]))
        check_tag(event, tags)


def instant(text):
    return datetime.datetime.fromisoformat(text)


def past(events, event):
    """The events that one follows, directly or not, in their order."""
    ids, waiting = set(), list(event["parents"])
    by_id = {event["id"]: event for event in events}
    while waiting:
        parent = waiting.pop()
        if parent not in ids:
            ids.add(parent)
            waiting += by_id[parent]["parents"]
    return [event for event in events if event["id"] in ids]


def check_promotions(events):
    for event in events:
        if event["kind"] in ("promotion.finished", "stage.promoted") and not is_allowed(event, past(events, event)):
            raise Refused("LEDGER_CONFLICT")


def check_settled(events):
    for event in events:
        if event["kind"] in ("generation.amended", "generation.abandoned") and any(
            row["kind"] == "promotion.finished" and row["body"]["version"] == event["body"]["version"]
            for row in past(events, event)
        ):
            raise Refused("LEDGER_CONFLICT")


def check_environments(events):
    if not any(event["kind"] in ("environment.set", "promotion.finished") for event in events):
        return
    for event in events:
        body = event["body"]
        before = past(events, event)
        if event["kind"] == "environment.set":
            keys = [row["body"] for row in before if row["kind"] == "roles.set"][-1]
            lowest = keys.get("environments", {}).get(body["environment"], "final")
            stages = [
                row["body"].get("stage", "final")
                for row in before
                if row["id"] == body["promoted"] and row["kind"] in ("promotion.finished", "stage.promoted")
                if all(row["body"][name] == body[name] for name in ("version", "commit", "tag"))
            ]
            said = [row["kind"] for row in before if row["body"].get("version") == body["version"]]
            gone = "generation.abandoned" in said and "promotion.finished" not in said
            gone |= any(row["kind"] == "rollback.done" and row["body"]["from"] == body["version"] for row in before)
            if gone or not stages or STAGES.index(stages[0]) < STAGES.index(lowest):
                raise Refused("LEDGER_CONFLICT")
        elif event["kind"] == "rollback.done":
            stand, released = {}, set()
            for row in before:
                said = row["body"]
                if row["kind"] == "promotion.finished":
                    released.add(said["version"])
                elif row["kind"] == "environment.set":
                    stand[said["environment"]] = (said["version"], row["id"])
                elif row["kind"] == "rollback.done":
                    released.discard(said["from"])
                    stand |= {name: (said["to"], row["id"]) for name in said.get("environments", {})}
            stand = {name: of for name, (version, of) in stand.items() if version == body["from"]}
            both = {body["from"], body["to"]}
            if stand != body.get("environments", {}) or len(both) < 2 or not both <= released:
                raise Refused("LEDGER_CONFLICT")


def is_allowed(event, before):
    body = event["body"]
    version, commit, digest_of = body["version"], body["commit"], body["contract"]
    own = [(row, row["body"]) for row in before if row["body"].get("version") == version]
    keys = [row["body"]["keys"] for row in before if row["kind"] == "roles.set"][-1]
    contract, sealed = None, False
    for row, said in own:
        if row["kind"] in ("generation.sealed", "generation.amended"):
            contract, sealed = said, sealed or row["kind"] == "generation.sealed"
        sealed = sealed and row["kind"] not in (
            "generation.abandoned",
            "promotion.finished",
        )
    if not sealed or contract["contract"] != digest_of:
        return False
    stage = body.get("stage", "final")
    named = f"{stage}\n" if stage != "final" else ""
    if body["promotion"] != digest(f"{version}\n{digest_of}\n{commit}\n{named}".encode()):
        return False

    def may(row, role):
        return role in keys.get(row["actor"], {"roles": []})["roles"]

    document = contract["document"]
    changes = set(contract["changes"]) | {change["id"] for change in document.get("changes", [])}
    runs = [(row, said) for row, said in own if row["kind"] == "evolution.finished"]
    good = [said for row, said in runs if said["result"] == "PASSED" and may(row, "runner")]
    amended, altering, known = [], {}, {}
    for row, said in own:
        if row["kind"] == "generation.amended":
            amended.append(row["id"])
            for change in {id for id, _ in set(known.items()) ^ set(said["changes"].items())}:
                altering.setdefault(change, []).append(row["id"])
        known = said["changes"] if row["kind"] in ("generation.sealed", "generation.amended") else known
    starts = {said["evolution"]: row for row, said in own if row["kind"] == "evolution.started"}

    def is_since(row, amendments):
        return not amendments or (row is not None and {of["id"] for of in past(before, row)}.issuperset(amendments))

    whole = [said for said in good if is_since(starts.get(said["evolution"]), amended)]
    for change in changes:
        of_change = [said for _, said in runs if change in said["changes"]]
        if not of_change or of_change[-1] not in good:
            return False
        if of_change[-1]["changes"][change] != contract["changes"].get(change):
            return False
        if not is_since(starts.get(of_change[-1]["evolution"]), altering.get(change)):
            return False
        if not shows(of_change[-1], steps_of(document, change)):
            return False
    if not any(
        run["commit"] == commit
        and run["contract"] == digest_of
        and "tag" in run
        and (stage != "rc" or run["tag"] == body["tag"])
        and changes <= set(run["changes"])
        and shows(run, steps_of(document, None))
        for run in whole
    ):
        return False
    gate = document.get("gates", {}).get("approvals", {})
    authors = {row["actor"] for row, _ in own if row["kind"] in ("generation.sealed", "generation.amended")}
    authors |= {document.get("author", {}).get("key")}
    names = {keys[key]["name"] for key in authors if key in keys} | {document.get("author", {}).get("name")}
    people = set()
    for row, said in own:
        if row["kind"] != "approval.given" or not may(row, "approver") or row["actor"] in authors:
            continue
        hours = datetime.timedelta(hours=gate.get("hours_max", 1_000_000))
        of_this = said["contract"] == digest_of and said["commit"] == commit
        in_force = instant(said["expires"]) > instant(event["at"]) and instant(row["at"]) + hours >= instant(
            event["at"]
        )
        if of_this and in_force and is_since(row, amended) and keys[row["actor"]]["name"] not in names:
            people.add(keys[row["actor"]]["name"])
    if holds(gate, "final", stage) and len(people) < gate.get("count", 0):
        return False

    def is_waived(name):
        if name not in WAIVABLE and not name.startswith("command:"):
            return False
        if name in document.get("hotfix", {}).get("skips", []):
            return True
        return any(
            row["kind"] == "approval.waiver"
            and (said["gate"], said["contract"], said["commit"]) == (name, digest_of, commit)
            and instant(said["expires"]) > instant(event["at"])
            and may(row, "approver")
            and is_since(row, amended)
            and row["actor"] not in authors
            and keys[row["actor"]]["name"] not in names
            for row, said in own
        )

    ladder = [row for row in document.get("stages", [])]
    if stage != "final" and stage not in [row["stage"] for row in ladder]:
        return False
    below = [row for row in ladder if STAGES.index(row["stage"]) < STAGES.index(stage)]
    soaked = True
    for rung in below[-1:]:
        reached = [
            row
            for row, said in own
            if row["kind"] == "stage.promoted" and said["stage"] == rung["stage"] and may(row, "releaser")
            if (said["contract"], said["commit"]) == (digest_of, commit) and is_since(row, amended)
        ]
        if not reached:
            return False
        since = max(instant(row["at"]) for row in [reached[0], *beside(before, reached[0])])
        soaked = since + datetime.timedelta(hours=rung.get("soak_hours", 0)) <= instant(event["at"])
        if not soaked and not is_waived("soak"):
            return False
    if document.get("generation") != 1:
        return True
    enough = sum(run["contract"] == digest_of for run in whole)
    scope = document.get("gates", {}).get("no_failed", {}).get("scope")
    counts = {
        "no_failed": scope != "ever" or all(said["result"] == "PASSED" for _, said in runs),
        "min_evolutions": enough >= document.get("gates", {}).get("min_evolutions", {}).get("count", 0),
        "freeze_window": not is_frozen(document, instant(event["at"])),
        "soak": soaked,
        "hotfix_base": "hotfix" in document and mends(version, document["hotfix"]["base"], before),
    }
    rows = {row["gate"] for row in body["gates"]}
    for row in body["gates"]:
        if row["state"] == "pass":
            if not counts.get(row["gate"], True):
                return False
        elif row["state"] != "waived" or not is_waived(row["gate"]):
            return False
    return asked(document, stage, below, before, version) <= rows


def beside(events, event):
    """Those of the events that neither follow one nor are followed by it."""
    known = {row["id"] for row in past(events, event)} | {event["id"]}
    known |= {row["id"] for row in events if event["id"] in {of["id"] for of in past(events, row)}}
    return [row for row in events if row["id"] not in known]


def is_frozen(document, at):
    windows = document.get("gates", {}).get("freeze_window", {}).get("windows", [])
    return any(instant(window["from"]) <= at < instant(window["to"]) for window in windows)


def mends(version, base, before):
    """Whether a version is a later patch of one that was promoted."""
    if "-" in version + base:
        return False
    (*line, patch), (*line_of_base, patch_of_base) = (map(int, of.split(".")) for of in (version, base))
    promoted = any(row["kind"] == "promotion.finished" and row["body"]["version"] == base for row in before)
    return promoted and line == line_of_base and patch > patch_of_base


def holds(gate, otherwise, stage):
    return STAGES.index(gate.get("from", otherwise)) <= STAGES.index(stage)


def asked(document, stage, below, before, version):
    gates = document.get("gates", {})
    names = {name for name in SHOWN & set(gates) if holds(gates[name], "alpha", stage)}
    names |= {name for name in DECIDED & set(gates) if holds(gates[name], "final", stage)}
    names |= {f"command:{gate['id']}" for gate in gates.get("commands", []) if holds(gate, "alpha", stage)}
    names |= {"stage_before"} if below else set()
    names |= {"soak"} if below and below[-1].get("soak_hours") else set()
    names |= {"hotfix_base"} if "hotfix" in document else set()
    names |= {"hotfix_forward_ported"} if any(core(of) < precedence(version) for of in mended(before)) else set()
    return names | ALWAYS


def mended(before):
    """The hotfixes that were promoted and not taken back."""
    documents, found = {}, set()
    for row in before:
        body = row["body"]
        if row["kind"] in ("generation.sealed", "generation.amended"):
            documents[body["version"]] = body["document"]
        elif row["kind"] == "promotion.finished":
            document = documents.get(body["version"], {})
            found |= {body["version"]} if document.get("generation") == 1 and "hotfix" in document else set()
        elif row["kind"] == "rollback.done":
            found.discard(body["from"])
    return found


def core(version):
    """A hotfix is no pre-release."""
    return (*map(int, version.split(".")), 1)


def precedence(version):
    """As far as it is needed: a pre-release comes before its release."""
    number, _, pre = version.partition("-")
    return (*map(int, number.split(".")), 0 if pre else 1)


def steps_of(document, change):
    """Id and kind of the steps that prove a change, and of those that these need; of all where it is none."""
    if document.get("generation") != 1:
        return set()
    steps = {step["id"]: step for step in document["steps"]}
    wanted = {
        key for key, step in steps.items() if change is None or step["proves"] == "all" or change in step["proves"]
    }
    while more := {need for key in wanted for need in steps[key].get("needs", [])} - wanted:
        wanted |= more
    return {(key, steps[key]["kind"]) for key in wanted}


def shows(run, steps):
    return steps <= {(step["id"], step["kind"]) for step in run["steps"] if step["outcome"] == "passed"}


@pytest.mark.parametrize("vector", VECTORS.values(), ids=lambda vector: vector["name"])
def test_another_reading_says_the_same(vector):
    files = [(row["path"], row["text"].encode()) for row in vector["files"]]
    try:
        said = {"events": len(files), "head": check(files, vector["genesis"])}
    except Refused as refused:
        said = {"code": str(refused)}
    assert said == vector["expect"]
