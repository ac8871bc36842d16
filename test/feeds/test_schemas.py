"""Every document keeps the published schema of its format, strictly: what the schema does not name is a fault."""

import collections
import functools
import json
import re
import subprocess

import pytest
from conftest import ROOT
from jsonschema import Draft202012Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

SCHEMAS = OcsfJsonSchemaEmbedded(get_ocsf_schema(version="1.8.0"))


@functools.cache
def validator(class_uid, profiles):
    name = SCHEMAS.lookup_class_name_from_uid(class_uid=class_uid)
    schema = SCHEMAS.get_class_schema(class_name=name, profiles=list(profiles))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def ocsf_faults(event):
    judge = validator(event["class_uid"], tuple(event["metadata"].get("profiles", ())))
    return [f"{list(error.absolute_path)}: {error.message[:200]}" for error in judge.iter_errors(event)]


def check_ecs(documents):
    """What the checker says of them."""
    lines = "".join(json.dumps(document) + "\n" for document in documents)
    command = ["node", ROOT / "test/feeds/ecs.mjs"]
    return subprocess.run(command, input=lines, capture_output=True, text=True)


@pytest.mark.parametrize("source", ["golden", "live"])
def test_every_ocsf_event_keeps_the_schema_of_its_class_and_profiles(source, request):
    events = request.getfixturevalue(source)["ocsf"]
    faults = [f"{at}: {fault}" for at, event in enumerate(events) for fault in ocsf_faults(event)]
    assert faults == []
    classes = collections.Counter(event["class_uid"] for event in events)
    assert {6003, 4002, 2004, 3004, 6002} <= classes.keys()


@pytest.mark.parametrize("source", ["golden", "live"])
def test_every_ecs_document_keeps_the_field_list(source, request):
    done = check_ecs(request.getfixturevalue(source)["ecs"])
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_checks_refuse_what_is_wrong(golden):
    call = next(event for event in golden["ocsf"] if event["class_uid"] == 6003)
    for change in ({"colour": 1}, {"action_id": 77}, {"severity_id": "high"}, {"api": {}}, {"metadata": {"version": "1.8.0"}}):
        wrong = {**call, "metadata": {**call["metadata"]}} | change
        wrong["metadata"].setdefault("profiles", call["metadata"]["profiles"])
        assert ocsf_faults(wrong), change
    document = golden["ecs"][0]
    for change in (
        {"colour": 1},
        {"message": 7},
        {"event": {**document["event"], "kind": "thing"}},
        {"event": {**document["event"], "type": "start"}},
        {"event": {**document["event"], "category": ["api"], "type": ["error"]}},
        {"@timestamp": "yesterday"},
    ):
        assert check_ecs([document | change]).returncode == 1, change
    assert check_ecs([]).returncode == 1


def test_calls_of_models_and_tools_say_so(live):
    calls = {event["api"]["operation"]: event for event in live["ocsf"] if event["class_uid"] == 6003}
    assert calls["openai.chat.completions"]["ai_model"]["ai_provider"] == "openai"
    denied = calls["mcp.tools/call"]
    assert (denied["action"], denied["disposition"], denied["severity"]) == ("Denied", "Blocked", "High")
    assert [resource["name"] for resource in denied["resources"]] == ["delete_account"]
    assert denied["firewall_rule"]["name"] == "no-deletes"
    finding = next(event for event in live["ocsf"] if event["class_uid"] == 2004)
    assert finding["metadata"]["original_event_uid"] == denied["metadata"]["uid"]


def test_a_share_that_left_its_bound_is_one_alert_that_the_schemas_take(live):
    """Of the first three calls two passed; no later call made it good again."""
    (ocsf,) = [event for event in live["ocsf"] if event.get("finding_info", {}).get("types") == ["alert"]]
    (ecs,) = [document for document in live["ecs"] if document["estoppel"].get("finding", {}).get("class") == "alert"]
    assert ocsf["finding_info"]["desc"] == ecs["estoppel"]["finding"]["detail"] == "pass-rate: 2 of 3 calls passed within 300 s, below 0.8"
    assert (ocsf["severity"], ocsf["is_alert"], ecs["event"]["kind"]) == ("Critical", True, "alert")
    assert ocsf["finding_info"]["analytic"]["name"] == ecs["rule"]["name"] == "pass-rate"
    assert ocsf["metadata"]["uid"] == ecs["event"]["id"]
    assert ocsf["metadata"]["uid"].endswith("#alert-pass-rate")


def test_no_document_has_content_of_a_body_or_a_path(live):
    for name in ("ocsf", "ecs"):
        assert "PLANTED-SECRET" not in json.dumps(live[name])


def leaves(value, path=""):
    """Paths of members, without places in lists; below maps with free names only the map's own."""
    if isinstance(value, dict) and value and path not in FREE:
        for name, member in value.items():
            yield from leaves(member, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for member in value:
            yield from leaves(member, path + "[]")
    else:
        yield path


# Members of these are as the receipt has them, or named by callers.
FREE = {f"{own}.{name}" for own in ("unmapped", "estoppel") for name in ("approval", "claims", "contract", "evaluated", "hold", "limits", "reask")}


@pytest.mark.parametrize("name", ["ocsf", "ecs"])
def test_the_mapping_document_names_every_field_and_no_other(name, golden, live):
    text = (ROOT / "docs/siem.md").read_text(encoding="utf-8")
    section = re.search(rf"<!-- fields: {name} -->\n(.*?)\n<!-- end -->", text, re.DOTALL).group(1)
    listed = {path for row in section.splitlines()[2:] for path in re.findall(r"`([^`]+)`", row.split("|")[1])}
    told = {path for source in (golden, live) for document in source[name] for path in leaves(document)}
    assert told - listed == set()
    assert listed - told == set()
