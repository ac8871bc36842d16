"""Detections: written once, compiled to three products, each fires on what it is for and on nothing else."""

import configparser
import json
import re
import sqlite3
import subprocess
import sys

import pytest
from conftest import ROOT, load
from sigma.backends.sqlite import sqliteBackend
from sigma.collection import SigmaCollection
from sigma.correlations import SigmaCorrelationRule
from sigma.processing.pipeline import ProcessingPipeline
from test_schemas import leaves

SIEM = ROOT / "deploy/siem"
compile = load("estoppel_siem_compile", SIEM / "compile.py")

# What each rule must find in the goldens of src/feeds, by the sequence number of the entry; it must find nothing else there.
POSITIVE = {
    "tool_call_blocked": [4],
    "contract_violated": [5],
    "upstream_errors": [6],
    "receipt_chain": [18, 20],
    "evidence_failure": [19],
    "detector_finding": [11, 11],
    "tool_changed": [8],
    "policy_changed": [1, 15],
    "key_rotated": [16],
    "bypass": [27],
}


def flat(value, path=""):
    """Columns of a document. A list is its only element: what rules look at has one."""
    if isinstance(value, dict):
        for name, member in value.items():
            yield from flat(member, f"{path}.{name}" if path else name)
    elif not isinstance(value, list):
        yield path, value
    elif len(value) == 1 and not isinstance(value[0], (dict, list)):
        yield path, value[0]


def table(documents):
    rows = [dict(flat(document)) for document in documents]
    columns = sorted({name.lower() for row in rows for name in row})
    database = sqlite3.connect(":memory:")
    database.row_factory = sqlite3.Row
    database.execute(f"create table logs ({', '.join(f'`{name}`' for name in columns)})")
    for row in rows:
        names = ", ".join(f"`{name}`" for name in row)
        database.execute(f"insert into logs ({names}) values ({', '.join('?' * len(row))})", list(row.values()))
    return database


def fired(name, documents, form="ocsf"):
    """Rows that the rule selects, by the SQL that pySigma makes of it."""
    pipeline = ProcessingPipeline.from_yaml((SIEM / "pipelines/ecs.yml").read_text()) if form == "ecs" else None
    rule = SigmaCollection.from_yaml((SIEM / f"sigma/{name}.yml").read_text())
    (query,) = sqliteBackend(pipeline).convert(rule)
    try:
        return table(documents).execute(query.replace("<TABLE_NAME>", "logs")).fetchall()
    except sqlite3.OperationalError as error:
        # A document without the field of the rule cannot be meant by it.
        assert "no such column" in str(error), error
        return []


def sequence(row, form):
    return row["metadata.sequence" if form == "ocsf" else "event.sequence"]


def plain_rules():
    return sorted(path.stem for path in (SIEM / "sigma").glob("*.yml") if path.stem != "contract_violations_burst")


def test_there_is_a_fixture_for_every_rule():
    assert plain_rules() == sorted(POSITIVE)


@pytest.mark.parametrize("form", ["ocsf", "ecs"])
@pytest.mark.parametrize("name", sorted(POSITIVE))
def test_a_rule_fires_on_what_it_is_for_and_on_nothing_else(name, form, golden):
    rows = fired(name, golden[form], form)
    assert sorted(sequence(row, form) for row in rows) == POSITIVE[name]
    places = set(POSITIVE[name])
    others = [d for d in golden[form] if (d["metadata"] if form == "ocsf" else d["event"])["sequence"] not in places]
    assert len(others) < len(golden[form])
    assert fired(name, others, form) == []


def test_rules_fire_on_what_a_daemon_wrote(live):
    for form in ("ocsf", "ecs"):
        assert len(fired("tool_call_blocked", live[form], form)) == 1
        assert len(fired("upstream_errors", live[form], form)) == 1
        assert len(fired("policy_changed", live[form], form)) == 1
        assert fired("evidence_failure", live[form], form) == []


def burst(documents):
    """The rule of the correlation by pySigma's SQL, then what the correlation itself says: count, groups, time span."""
    (rule,) = [rule for rule in compile.rules() if isinstance(rule, SigmaCorrelationRule)]
    rows = fired(rule.rules[0].rule.name, documents)
    groups = {}
    for row in rows:
        key = tuple(row[field] for field in rule.group_by)
        groups.setdefault(key, []).append(row["time"])
    within = rule.timespan.seconds * 1000
    found = []
    for key, times in groups.items():
        times.sort()
        if any(sum(start <= time < start + within for time in times) >= rule.condition.count for start in times):
            found.append(key)
    return found


def test_a_burst_is_many_at_one_gateway_in_a_short_time(golden):
    violation = next(event for event in golden["ocsf"] if event.get("status_code") == "CONTRACT_VIOLATED")

    def violations(count, seconds, gateways=1):
        one = lambda n: violation | {
            "time": violation["time"] + n * seconds * 1000,
            "metadata": violation["metadata"] | {"log_name": f"gw/{n % gateways}/1"},
        }
        return [one(n) for n in range(count)]

    assert burst(violations(10, 20)) == [("gw/0/1",)]
    assert burst(violations(9, 20)) == []
    assert burst(violations(30, 40)) == []
    assert burst(violations(18, 10, gateways=2)) == []
    assert burst([event for event in golden["ocsf"] if event is not violation]) == []


def test_rules_have_no_fault_that_sigma_knows():
    done = subprocess.run(["sigma", "check", "--fail-on-error", "--fail-on-issues", SIEM / "sigma"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_was_compiled_is_current():
    done = subprocess.run([sys.executable, SIEM / "compile.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def emitted(documents):
    """Names under which fields of documents are found: without marks of lists."""
    return {path.replace("[]", "") for document in documents for path in leaves(document)}


def test_query_files_parse_and_name_only_fields_that_are_emitted(golden):
    ocsf, ecs = emitted(golden["ocsf"]), emitted(golden["ecs"])
    titles = {rule.title for rule in compile.rules() if isinstance(rule, SigmaCorrelationRule) or not rule._backreferences}

    searches = configparser.ConfigParser(interpolation=None, strict=True)
    text = (SIEM / "splunk/savedsearches.conf").read_text()
    searches.read_string(text.replace("\\\n", "\n "))
    assert set(searches.sections()) - {"default"} == titles
    for title in titles:
        search = re.sub(r'"(?!finding_info)[^"]*"', '""', searches[title]["search"])
        named = re.findall(r'([a-z_][\w.]*)(?:\{\})?"?\s*(?:=|\bIN\b|>=)', search)
        for listing in re.findall(r"(?:table|by _time) ([\w.,]+)", search):
            named += listing.split(",")
        named = set(named) - {"sourcetype", "span", "event_count"}
        assert named and named <= ocsf, (title, named - ocsf)

    rules = [json.loads(line) for line in (SIEM / "elastic/rules.ndjson").read_text().splitlines()]
    assert {rule["name"] for rule in rules} == titles
    for rule in rules:
        assert rule["type"] == "esql" and rule["license"] == "Apache-2.0"
        query = re.sub(r'"[^"]*"', '""', rule["query"].partition("_version")[2])
        named = {name for name in re.findall(r"[a-z_]+(?:\.[a-z_]+)+", query)}
        assert named and named <= ecs, (rule["name"], named - ecs)

    rules = json.loads((SIEM / "datadog/rules.json").read_text())
    assert {rule["name"] for rule in rules} == titles
    for rule in rules:
        (query,) = rule["queries"]
        named = {*re.findall(r"@([\w.]+):", query["query"]), *(field[1:] for field in query["groupByFields"])}
        assert named and named <= ocsf, (rule["name"], named - ocsf)
        assert query["query"].startswith("source:estoppel (")
