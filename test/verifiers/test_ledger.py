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
FILES = ("ledger-vectors.json", "ledger-release-vectors.json", "ledger-commit-vectors.json")
VECTORS = [vector for name in FILES for vector in json.loads((SPEC / name).read_bytes())["vectors"]]
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
}


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
    heads = {event["id"] for event in events} - {parent for event in events for parent in event["parents"]}
    return digest("".join(f"{head}\n" for head in sorted(heads)).encode())


def once(seen, value):
    if value in seen:
        raise Refused("LEDGER_CONFLICT")
    seen.add(value)


def check_tag(event, tags):
    kind, body = event["kind"], event["body"]
    if "tag" not in body:
        return
    if kind == "evolution.finished":
        joint = "." if "-" in body["version"] else "-"
        name = re.escape(f"v{body['version']}{joint}rc.") + "(0|[1-9][0-9]*)"
        own = body["result"] == "PASSED" and re.fullmatch(name, body["tag"])
    elif kind == "promotion.finished":
        own = body["tag"] == f"v{body['version']}"
    else:
        own = body["tag"] == f"rollback/v{body['from']}"
    if not own:
        raise Refused("LEDGER_EVENT_INVALID")
    once(tags, body["tag"])


def check_facts(events):
    contracts, started = {}, {}
    ended, promoted, tags = set(), set(), set()
    for event in events:
        kind, body = event["kind"], event["body"]
        if kind in ("generation.sealed", "generation.amended"):
            if contracts.get(body["version"]) != body.get("from"):
                raise Refused("LEDGER_CONFLICT")
            contracts[body["version"]] = body["contract"]
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
        if event["kind"] == "promotion.finished" and not is_allowed(event, past(events, event)):
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
        sealed = sealed and row["kind"] != "generation.abandoned"
    if not sealed or contract["contract"] != digest_of:
        return False
    if body["promotion"] != digest(f"{version}\n{digest_of}\n{commit}\n".encode()):
        return False

    def may(row, role):
        return role in keys.get(row["actor"], {"roles": []})["roles"]

    document = contract["document"]
    changes = set(contract["changes"]) | {change["id"] for change in document.get("changes", [])}
    runs = [(row, said) for row, said in own if row["kind"] == "evolution.finished"]
    good = [said for row, said in runs if said["result"] == "PASSED" and may(row, "runner")]
    for change in changes:
        of_change = [said for _, said in runs if change in said["changes"]]
        if not of_change or of_change[-1] not in good:
            return False
        if of_change[-1]["changes"][change] != contract["changes"].get(change):
            return False
    if not any(
        run["commit"] == commit and run["contract"] == digest_of and "tag" in run and changes <= set(run["changes"])
        for run in good
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
        in_force = instant(said["expires"]) > instant(event["at"]) and instant(row["at"]) + hours >= instant(event["at"])
        if of_this and in_force and keys[row["actor"]]["name"] not in names:
            people.add(keys[row["actor"]]["name"])
    return len(people) >= gate.get("count", 0)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_another_reading_says_the_same(vector):
    files = [(row["path"], row["text"].encode()) for row in vector["files"]]
    try:
        said = {"events": len(files), "head": check(files, vector["genesis"])}
    except Refused as refused:
        said = {"code": str(refused)}
    assert said == vector["expect"]
