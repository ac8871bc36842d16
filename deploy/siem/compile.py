#!/usr/bin/env python3
"""Compiles the detections in sigma/ to Splunk, Elastic and Datadog; with --check says what is not current instead.

Needs pySigma with its backends, in the versions of test/requirements.txt (.venv, made by `make setup`).
"""

import json
import pathlib
import sys

from sigma.backends.datadog import DatadogBackend
from sigma.backends.elasticsearch import ESQLBackend
from sigma.backends.splunk import SplunkBackend
from sigma.collection import SigmaCollection
from sigma.correlations import SigmaCorrelationRule
from sigma.processing.pipeline import ProcessingPipeline

HERE = pathlib.Path(__file__).resolve().parent


def rules():
    """All rules, in the order of their files' names."""
    found = SigmaCollection.load_ruleset(sorted((HERE / "sigma").glob("*.yml")))
    found.resolve_rule_references()
    return found


def pipeline(name):
    return ProcessingPipeline.from_yaml((HERE / f"pipelines/{name}.yml").read_text())


def splunk():
    return SplunkBackend(pipeline("splunk")).convert(rules(), "savedsearches").strip() + "\n"


def elastic():
    converted = ESQLBackend(pipeline("ecs")).convert(rules(), "siem_rule_ndjson")
    listed = converted if isinstance(converted, list) else converted.splitlines()
    lines = [row if isinstance(row, dict) else json.loads(row) for row in listed]
    for row in lines:
        row |= {"license": "Apache-2.0", "name": row["name"].removeprefix("SIGMA - ")}
    return "".join(json.dumps(row, sort_keys=True) + "\n" for row in lines)


def datadog():
    """Datadog's backend knows no correlations: a burst is its rule with a threshold, a window and groups."""
    found = []
    for rule in rules():
        burst = isinstance(rule, SigmaCorrelationRule)
        if not burst and rule._backreferences:
            continue  # only the burst of it is a detection
        # Read on its own: in a collection the rule of a burst gives no output.
        base = (HERE / f"sigma/{rule.rules[0].rule.name if burst else rule.name}.yml").read_text()
        row = json.loads(DatadogBackend().convert(SigmaCollection.from_yaml(base), "siem_rule")[0])
        query = row["queries"][0]
        source, _, terms = query["query"].partition(" ")
        query["query"] = f"{source} ({terms})"
        row["name"] = rule.title
        row["message"] = f"{rule.description}\n\nSigma rule {rule.id}"
        row["tags"] = sorted({"source:estoppel"} | {f"{tag.namespace}:{tag.name}" for tag in rule.tags})
        if burst:
            query["groupByFields"] = [f"@{field}" for field in rule.group_by]
            row["cases"][0] |= {"condition": f"a >= {rule.condition.count}", "status": str(rule.level).lower()}
            row["options"]["evaluationWindow"] = rule.timespan.seconds
        found.append(row)
    return json.dumps(found, indent=1, sort_keys=True) + "\n"


TARGETS = {
    "splunk/savedsearches.conf": splunk,
    "elastic/rules.ndjson": elastic,
    "datadog/rules.json": datadog,
}


def main(words):
    stale = []
    for path, make in TARGETS.items():
        target, text = HERE / path, make()
        if words == ["--check"]:
            if not target.exists() or target.read_text() != text:
                stale.append(path)
        elif words:
            sys.exit("usage: compile.py [--check]")
        else:
            target.parent.mkdir(exist_ok=True)
            target.write_text(text)
    if stale:
        sys.exit(f"not current: {', '.join(stale)}; run deploy/siem/compile.py")


if __name__ == "__main__":
    main(sys.argv[1:])
