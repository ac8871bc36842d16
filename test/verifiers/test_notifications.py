"""A receiver of spec/notification.md that shares no code with the product, on the published vectors: signatures by openssl, messages by a
validator of JSON Schema, objects by the ledgers that they are of."""

import base64
import hashlib
import json
import pathlib
import subprocess
import sys

import jsonschema
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SPEC = ROOT / "spec"
VECTORS = json.loads((SPEC / "notification-vectors.json").read_bytes())
SCHEMA = json.loads((SPEC / "notification.schema.json").read_bytes())
ROWS, REQUESTS = VECTORS["rows"], VECTORS["requests"]


def validator(name=None):
    schema = SCHEMA if name is None else {"$ref": f"#/$defs/{name}", "$defs": SCHEMA["$defs"]}
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def hmac_of(secret, message, tmp_path):
    """By openssl alone."""
    key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    file = tmp_path / "message"
    file.write_bytes(message)
    words = ["openssl", "dgst", "-sha256", "-mac", "HMAC", "-macopt", f"hexkey:{key.hex()}", "-binary", str(file)]
    return subprocess.run(words, check=True, capture_output=True).stdout


def is_signed(request, tmp_path):
    """Step N2, under each secret: a receiver has one of them."""
    headers, body = request["headers"], request["body"].encode()
    message = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    parts = headers["webhook-signature"].split(" ")
    made = {base64.b64encode(hmac_of(secret, message, tmp_path)).decode() for secret in request["secrets"]}
    return all(f"v1,{signature}" in parts for signature in made)


def test_the_vectors_are_what_another_program_makes_of_the_ledgers():
    words = [sys.executable, "test/vectors/make_notifications.py", "--check"]
    assert subprocess.run(words, cwd=ROOT, capture_output=True, text=True).stderr == ""


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: request["name"])
def test_openssl_agrees_on_every_signature(request_, tmp_path):
    assert is_signed(request_, tmp_path) == request_["verifies"]
    if request_["verifies"]:
        assert request_["headers"]["webhook-id"] == "msg_" + hashlib.sha256(request_["uid"].encode()).hexdigest()[:32]


def test_there_are_requests_of_both_kinds():
    verify = [request["verifies"] for request in REQUESTS]
    assert verify.count(True) >= 6 and verify.count(False) >= 7


def test_every_message_and_line_keeps_the_schema_and_has_an_id_of_its_own():
    message, channel = validator(), validator("channel")
    ids = {}
    for told in (told for row in ROWS for told in row["messages"]):
        document = json.loads(told["body"])
        message.validate(document)
        channel.validate(json.loads(told["channel"]))
        assert document["data"]["uid"] == told["uid"]
        assert told["id"] == "msg_" + hashlib.sha256(told["uid"].encode()).hexdigest()[:32]
        assert ids.setdefault(told["id"], told["uid"]) == told["uid"]
    assert len(ids) >= 20


def test_every_object_is_the_event_that_its_key_names():
    kept, event = validator("kept"), jsonschema.Draft202012Validator(json.loads((SPEC / "ledger.schema.json").read_bytes()))
    rows = [row for row in ROWS if "object" in row]
    assert len(rows) >= 20
    for row in rows:
        vectors = json.loads((SPEC / row["ledger"]["file"]).read_bytes())["vectors"]
        (ledger,) = (vector for vector in vectors if vector["name"] == row["ledger"]["name"])
        contents = {"sha256/" + hashlib.sha256(file["text"].encode()).hexdigest(): file["text"] for file in ledger["files"]}
        envelope = json.loads(contents[row["object"]])
        kept.validate(envelope)
        event.validate(json.loads(base64.b64decode(envelope["payload"], validate=True)))
        assert row["event"] == row["object"].replace("/", ":")


MESSAGE = next(told["body"] for row in ROWS for told in row["messages"] if '"generation.promoted"' in told["body"])


@pytest.mark.parametrize(
    "path, value",
    [
        (["type"], "generation.praised"),
        (["timestamp"], "2026-11-22T05:00:00Z"),
        (["extra"], 1),
        (["data", "extra"], 1),
        (["data", "severity"], 3),
        (["data", "kind"], "rollback.done"),
        (["data", "uid"], "sha256:00"),
        (["data", "version"], None),
        (["data", "tag"], None),
        (["data", "message"], "x" * 513),
        (["data", "alert"], "pass_rate"),
        (["data", "destination"], "pager"),
        (["data", "changes"], [{"id": "A-1"}]),
    ],
)
def test_the_schema_refuses_what_is_no_such_message(path, value):
    document = json.loads(MESSAGE)
    validator().validate(document)
    *parents, last = path
    at = document
    for name in parents:
        at = at[name]
    at.update({last: value}) if value is not None else at.pop(last)
    assert not validator().is_valid(document)
