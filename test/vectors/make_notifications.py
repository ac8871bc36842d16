"""Writes spec/notification-vectors.json, from spec/notification.md and the published ledgers alone.

Run it with --check to see that the file is what it writes, and what was published.
"""

import base64
import hashlib
import hmac
import json
import pathlib
import re
import sys

SPEC = pathlib.Path(__file__).resolve().parents[2] / "spec"
NAME = "notification-vectors.json"
TEXT_CHARS_MAX = 512
LEDGERS = (
    ("ledger-release-vectors.json", "a promotion that two people approved", None),
    ("ledger-release-vectors.json", "a run that failed beside a promotion", 60),
    ("ledger-release-vectors.json", "a version taken back", None),
    ("ledger-ladder-vectors.json", "too short at a stage, and somebody answers", 100),
    ("ledger-ladder-vectors.json", "a release runs", None),
    ("ledger-commit-vectors.json", "where the working tree stood", None),
)
FACTS = "commit contract environment evolution expires from gate policy reason result stage tag to why".split()
TYPES = {"promotion.finished": "generation.promoted", "rollback.done": "generation.rolled_back"}
SEVERITIES = {"generation.rolled_back": 4, "alert": 4, "estoppel.test": 1}
SEVERITIES |= dict.fromkeys(["evolution.failed", "promotion.refused", "approval.waiver", "roles.set"], 3)
TURNS = re.compile("[\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
HIDDEN = re.compile("[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\U000e0000-\U000e007f]")


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def read(vector):
    """Id to payload of each event."""
    texts = [file["text"].encode() for file in vector["files"]]
    return {"sha256:" + sha256(text): json.loads(base64.b64decode(json.loads(text)["payload"])) for text in texts}


def past(events, last):
    """The event and what it follows, directly or not; the nearest first."""
    found, open_ = {}, [last]
    while open_:
        found[open_[0]] = events[open_[0]]
        open_ = open_[1:] + [parent for parent in events[open_[0]]["parents"] if parent not in found]
    return found


def type_of(event):
    if event["kind"] == "evolution.finished":
        return "evolution." + event["body"]["result"].lower()
    return TYPES.get(event["kind"], event["kind"])


def name_of(before, actor):
    """Roles form one line: the latest ones follow all others."""
    depth = {id: len(past(before, id)) for id, event in before.items() if event["kind"] == "roles.set"}
    roles = before[max(depth, key=depth.get)]["body"]["keys"]
    return roles.get(actor, {}).get("name", "")


def changes_of(before, body):
    sealed = [event["body"] for event in before.values() if event["kind"] in ("generation.sealed", "generation.amended")]
    documents = [contract["document"] for contract in sealed if contract["contract"] == body.get("contract")]
    if not documents:
        return {}
    listed = [change for change in documents[0]["changes"] if change["id"] in body.get("changes", [change["id"]])]
    return {"changes": [{name: change.get(name) for name in ("id", "title", "type")} for change in listed]}


def line(kind, data):
    subject, what = kind.rsplit(".", 1)
    what = what.replace("_", " ")
    if "version" not in data:
        said = f"{subject} {what}"
    else:
        said = f"{data['version']} {what}" if subject == "generation" else f"{subject} of {data['version']} {what}"
    for name, before in (("tag", "as"), ("environment", "in"), ("gate", "of gate"), ("to", "to")):
        said += f" {before} {data[name]}" if name in data else ""
    said += f" by {data['name']}" if data["name"] else ""
    said += ": " + ", ".join(gate["gate"] for gate in data["gates"]) if "gates" in data else ""
    why = data.get("reason", data.get("why"))
    return said if why is None else f"{said}: {why}"


def message(kind, at, data, said):
    return {"type": kind, "timestamp": at, "data": data | {"severity": SEVERITIES.get(kind, 2), "message": said}}


def messages(events, id, repository, pass_rate_min):
    event, before = events[id], past(events, id)
    body, kind = event["body"], type_of(event)
    first = next(id for id, event in events.items() if not event["parents"])
    data = {name: body[name] for name in FACTS if isinstance(body.get(name), str)}
    data |= {"uid": id, "repository": repository, "ledger": first, "name": name_of(before, event["actor"])}
    data |= {name: event[name] for name in ("kind", "actor", "host")}
    version = body.get("version") or body.get("from")
    data |= {"version": version} if version else {}
    data |= changes_of(before, body)
    gates = [gate for gate in body.get("gates", []) if gate["state"] in ("fail", "missing")]
    data |= {"gates": [{name: gate.get(name) for name in ("gate", "state", "why")} for gate in gates]} if gates else {}
    made = [message(kind, event["at"], data, line(kind, data))]
    if event["kind"] == "evolution.finished" and pass_rate_min:
        runs = {id: run["body"] for id, run in before.items() if run["kind"] == "evolution.finished"}
        results = {id: run["result"] == "PASSED" for id, run in runs.items() if run["version"] == version}
        others = [result for other, result in results.items() if other != id]
        passed, ended = sum(results.values()), len(results)
        if passed * 100 // ended < pass_rate_min and not (others and sum(others) * 100 // len(others) < pass_rate_min):
            said = f"{passed} of {ended} evolutions of {version} passed, fewer than {pass_rate_min} of a hundred"
            counts = {"passed": passed, "failed": ended - passed, "min": pass_rate_min}
            data = data | {"uid": f"{id}#alert-pass_rate", "alert": "pass_rate"} | counts
            made.append(message("alert", event["at"], data, said))
    return made


def cut(value):
    if isinstance(value, str):
        return value[:TEXT_CHARS_MAX]
    if isinstance(value, list):
        return [cut(item) for item in value]
    return {name: cut(item) for name, item in value.items()} if isinstance(value, dict) else value


def written(value):
    text = json.dumps(cut(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return TURNS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def channel(message):
    data = cut(message)["data"]
    mark = {5: "CRITICAL ", 4: "HIGH "}.get(data["severity"], "")
    text = f"{mark}{data['message']} · {data['repository']}".replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = HIDDEN.sub(" ", text).replace("@", "@\u2060")
    return json.dumps({"text": text, "mrkdwn": False}, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def webhook_id(uid):
    return "msg_" + sha256(uid.encode())[:32]


def told(message):
    uid = message["data"]["uid"]
    return {"body": written(message), "channel": channel(message), "id": webhook_id(uid), "uid": uid}


def ledgers():
    for file, name, pass_rate_min in LEDGERS:
        vectors = json.loads((SPEC / file).read_bytes())["vectors"]
        events = read(next(vector for vector in vectors if vector["name"] == name))
        for id in events:
            made = [told(message) for message in messages(events, id, "payments", pass_rate_min)]
            setting = {} if pass_rate_min is None else {"pass_rate_min": pass_rate_min}
            of = {"event": id, "ledger": {"file": file, "name": name}, "object": "sha256/" + id.removeprefix("sha256:")}
            yield of | setting | {"messages": made, "repository": "payments"}


def tests():
    for repository in ("payments", "pay\u202e<b> @here & \u2066co"):
        uid = "test:" + sha256(repository.encode())[:32]
        data = {"destination": "pager", "repository": repository, "uid": uid}
        made = message("estoppel.test", "2026-11-22T05:00:00.000000Z", data, "a test of pager: nothing happened")
        yield {"messages": [told(made)], "repository": repository}


def secret(byte, size=32):
    return "whsec_" + base64.b64encode(bytes([byte]) * size).decode()


def signature(secret, id, at, body):
    key = base64.b64decode(secret.removeprefix("whsec_"))
    return "v1," + base64.b64encode(hmac.digest(key, f"{id}.{at}.".encode() + body.encode(), "sha256")).decode()


def request(name, secrets, at, told, verifies=True, **changed):
    id, body = told["id"], told["body"]
    signed = " ".join(signature(secret, id, at, body) for secret in secrets)
    headers = {"webhook-id": id, "webhook-timestamp": str(at), "webhook-signature": signed} | changed.pop("headers", {})
    made = {"at": at, "headers": headers, "name": name, "secrets": secrets, "uid": told["uid"], "verifies": verifies}
    return made | {"body": body} | changed


def requests(rows):
    one, alert, test = rows[0]["messages"][0], next(row["messages"][1] for row in rows if len(row["messages"]) > 1), rows[-1]["messages"][0]
    a, b, at = secret(0x5A), secret(0xA5), 1_795_000_000
    yield request("one secret", [a], at, one)
    yield request("the same at another time", [a], at + 2, one)
    yield request("two secrets", [a, b], at, one)
    yield request("the shortest and the longest secret", [secret(1, 24), secret(2, 64)], at, one)
    yield request("an alert", [b], at, alert)
    yield request("a test, and letters that are not ASCII", [a], at, test)
    other = signature(b, one["id"], at, one["body"])
    wrong = {
        "another secret": {"headers": {"webhook-signature": other}},
        "another message under this id": {"body": one["body"].replace('"host"', '"hosT"')},
        "another id": {"headers": {"webhook-id": alert["id"]}},
        "another time": {"headers": {"webhook-timestamp": str(at + 1)}},
        "a body that was written anew": {"body": json.dumps(json.loads(one["body"]))},
        "a signature of another version": {"headers": {"webhook-signature": "v1a," + signature(a, one["id"], at, one["body"])[3:]}},
        "no signature": {"headers": {"webhook-signature": ""}},
    }
    for name, changed in wrong.items():
        yield request(name, [a], at, one, verifies=False, **changed)


def main():
    rows = [*ledgers(), *tests()]
    document = {"format": "estoppel-notification-vectors/1", "rows": rows, "requests": list(requests(rows))}
    text = json.dumps(document, indent=1, sort_keys=True) + "\n"
    locked = f"{sha256(text.encode())}  {NAME}\n"
    path, lock = SPEC / NAME, SPEC / NAME.replace(".json", ".lock")
    if "--check" in sys.argv or lock.exists():
        same = lock.exists() and path.exists() and (path.read_text(), lock.read_text()) == (text, locked)
        sys.exit(0 if same else f"{NAME} is not what make_notifications.py writes; published vectors never change")
    path.write_text(text)
    lock.write_text(locked)


if __name__ == "__main__":
    main()
