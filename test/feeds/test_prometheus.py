"""/metrics, the rules over it and the dashboard, held against promtool and against each other."""

import json
import os
import re
import shutil
import subprocess

import pytest
import yaml
from conftest import ROOT

PROMETHEUS = ROOT / "deploy/prometheus"
DASHBOARD = ROOT / "deploy/grafana/estoppel.json"
# Names that Prometheus itself makes.
BUILT_IN = {"up"}


@pytest.fixture(scope="session")
def promtool():
    found = shutil.which("promtool")
    if found is None:
        assert os.environ.get("REQUIRE_REAL") != "1", "promtool is missing"
        pytest.skip("promtool is missing (make setup brings it)")

    def run(*words, **more):
        return subprocess.run([found, *words], capture_output=True, text=True, **more)

    return run


def exported():
    """Every metric that the sources register, with the series that a histogram makes."""
    names = set()
    for path in ("src/gateway/src/metrics.rs", "src/feeds/src/stats.rs", "src/archive/src/stats.rs"):
        names |= set(re.findall(r'"(estoppel_[a-z_]+)"', (ROOT / path).read_text()))
    return names


def with_series(names):
    return {name + end for name in names for end in ("", "_bucket", "_sum", "_count")}


def recorded():
    groups = yaml.safe_load((PROMETHEUS / "recording.yml").read_text())["groups"]
    return {rule["record"] for group in groups for rule in group["rules"]}


def named(expression):
    """Names of series in an expression."""
    bare = re.sub(r'"[^"]*"', '""', expression)
    bare = re.sub(r"\b(?:by|without|on|ignoring)\s*\([^)]*\)", "", bare)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", bare)
    return {name for name in re.findall(r"[a-zA-Z_:][\w:]*(?!\w*\s*\()", bare) if "_" in name or ":" in name or name in BUILT_IN}


def test_promtool_finds_nothing_wrong_with_the_page_of_a_daemon(promtool, live):
    done = promtool("check", "metrics", input=live["metrics"])
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    wrong = promtool("check", "metrics", input="# TYPE x_milliseconds counter\nx_milliseconds 1\n")
    assert wrong.returncode != 0


def test_the_page_has_only_what_the_sources_register(live):
    told = set(re.findall(r"^# TYPE (\S+)", live["metrics"], re.MULTILINE))
    assert told <= exported()
    # What a daemon has from its first call on. Others come with their first event.
    assert len(told) >= 25


def test_what_alerts_call_a_rise_is_counted_from_zero(live):
    """`increase` sees nothing in a counter that begins with its first event."""
    rises = re.findall(r"increase\((\w+)", (PROMETHEUS / "alerts.yml").read_text())
    assert len(rises) >= 4
    for name in rises:
        assert re.search(rf"^{name}\{{.*\}} 0$", live["metrics"], re.MULTILINE), name


def test_rules_are_valid_and_fire_when_they_should(promtool):
    for words in (["check", "rules", "recording.yml", "alerts.yml"], ["test", "rules", "rules.test.yml"]):
        done = promtool(*words, cwd=PROMETHEUS)
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested_to_fire_and_not_to_fire():
    alerts = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    names = {rule["alert"] for group in alerts for rule in group["rules"]}
    tests = yaml.safe_load((PROMETHEUS / "rules.test.yml").read_text())["tests"]
    rows = [row for test in tests for row in test["alert_rule_test"]]
    assert {row["alertname"] for row in rows if row["exp_alerts"]} == names
    assert {row["alertname"] for row in rows if not row["exp_alerts"]} == names


def test_rules_and_dashboard_name_only_metrics_that_exist(promtool):
    known = with_series(exported()) | recorded() | BUILT_IN
    expressions = {}
    for path in ("recording.yml", "alerts.yml"):
        for group in yaml.safe_load((PROMETHEUS / path).read_text())["groups"]:
            expressions |= {rule.get("alert") or rule["record"]: rule["expr"] for rule in group["rules"]}
    dashboard = json.loads(DASHBOARD.read_text())
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            expressions[f"{panel['title']} {target['refId']}"] = target["expr"].replace("$__rate_interval", "5m")
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            metric = re.fullmatch(r"label_values\((\w+), \w+\)", variable["query"]["query"]).group(1)
            assert metric in known
    assert len(expressions) > 40
    for title, expression in expressions.items():
        found = named(expression) - {"histogram_quantile"}
        assert found and found <= known, (title, found - known)
    # Every expression is one that Prometheus parses.
    rules = [{"record": f"x:{n}", "expr": expression} for n, expression in enumerate(expressions.values())]
    text = yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]})
    done = promtool("check", "rules", "/dev/stdin", input=text)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_operations_says_of_metrics_is_so():
    text = (ROOT / "docs/operations.md").read_text()
    assert set(re.findall(r"`(estoppel_[a-z_]+)", text)) <= exported()
    assert set(re.findall(r"`(Estoppel[A-Za-z]+)`", text)) <= set(re.findall(r"alert: (\w+)", (PROMETHEUS / "alerts.yml").read_text()))
