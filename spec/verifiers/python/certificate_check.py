#!/usr/bin/env python3
"""Judges a Replay Certificate, written from spec/replay.md alone.

    certificate_check.py CERTIFICATE --bundle RUN.pef.zip [--trust trust.json] [--signer key.pem] [--json]

Exit code 0 when the certificate holds, whatever its status is; 2 when it does not, with the code of the first step that failed; 6 when
nothing was decided. Python 3.9 or later and pef_verify.py beside it; nothing is written.
"""

import argparse
import datetime
import decimal
import json
import os
import re
import sys

import pef_verify

HERE = os.path.dirname(os.path.abspath(__file__))
PLACES = (os.path.join(HERE, "schemas"), os.path.join(HERE, "..", ".."))  # in a kit, and in spec/
TYPE = "application/vnd.in-toto+json"
LISTED = 64
OF_MODE = {
    "ARG_DRIFT": "stub",
    "DB_DRIFT": "database",
    "NOT_COMPARED": "database",
    "OPERATION_NOT_ALLOWED": "live",
    "SCHEMA_DRIFT": "stub",
    "STATEMENT_BOUND": "database",
    "STATEMENT_DENIED": "database",
    "TOOL_NOT_ALLOWED": "live",
}
PART = {"stub": "request", "live": "answer", "database": "rows"}
POINTER = re.compile("(/([^~/]|~[01])*)*", re.DOTALL)
DISTANCE = re.compile("[0-9]+([.][0-9]+)?(e-?[0-9]{1,15})?")
AMOUNT = re.compile("(0|[1-9][0-9]{0,17})([.][0-9]{0,17}[1-9])?")


EXACT = decimal.Context(prec=decimal.MAX_PREC, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN)


class Refused(Exception):
    def __init__(self, code, detail):
        super().__init__(detail)
        self.code, self.detail = "CERTIFICATE_" + code, detail


def demand(holds, code, detail):
    if not holds:
        raise Refused(code, detail)


def read(data, signer):
    """R1 to R5. -> the statement and the key"""
    schemas = pef_verify.find_schemas()
    try:
        payload, kid, signature = pef_verify.read_envelope(schemas, data, TYPE)
    except pef_verify.Refusal as wrong:
        raise Refused("MALFORMED", wrong.detail) from None
    paths = [os.path.join(place, "replay.schema.json") for place in PLACES]
    with open(next(filter(os.path.isfile, paths), paths[0]), "rb") as file:
        schema = pef_verify.Schema(json.load(file))
    try:
        statement = pef_verify.admit(payload)
    except pef_verify.Malformed as wrong:
        raise Refused("SCHEMA", str(wrong)) from None
    demand(pef_verify.canonical(statement) == payload, "SCHEMA", "the payload is not canonical")
    wrong = schema.error(statement)
    demand(not wrong, "SCHEMA", wrong)
    said = statement["predicate"]["key"]
    spki = pef_verify.unbase64(said["spki"])
    key = pef_verify.Key(spki) if spki is not None else None
    fits = key is not None and key.alg == said["alg"] and key.kid == said["kid"] == kid
    demand(fits, "KEY", "the key is not the one that is named")
    demand(key.verify_dsse(signature, TYPE, payload), "SIGNATURE", "not by key %s" % key.kid)
    demand(signer is None or signer.kid == key.kid, "UNTRUSTED", "signed by %s" % key.kid)
    return statement, key


def ordered(rows, name="code"):
    names = [row[name] for row in rows]
    demand(names == sorted(set(names)), "STATUS", "a list is not in order")
    return {row[name]: row["count"] for row in rows}


def check_status(said):
    """R6."""
    counts, mode = said["counts"], said["mode"]
    drift, skipped = ordered(counts["drift"]), ordered(counts["skipped"])
    steps = counts["matched"] + counts["missing"] + counts["truncated"] + sum(drift.values()) + sum(skipped.values())
    demand(steps == counts["recorded"], "STATUS", "expected %d steps, found %d" % (counts["recorded"], steps))
    demand(counts["reordered"] <= counts["matched"], "STATUS", "more steps came early than matched")
    demand(moment(said["started"]) <= moment(said["finished"]), "STATUS", "it ended before it began")
    is_stub = mode == "stub"
    demand(("side" in said) == is_stub, "STATUS", "`side` does not fit `mode`")
    demand(is_stub or said["matching"] == "strict", "STATUS", "`matching` does not fit `mode`")
    demand(not is_stub or said["bodies_by"] == "tag", "STATUS", "`bodies_by` does not fit `mode`")
    for name, of in (("database", ("database",)), ("live", ("live",)), ("determinism", tuple(PART))):
        demand((name in said) == (mode in of), "STATUS", "`%s` does not fit `mode`" % name)
    for code in [*drift, *skipped]:
        demand(OF_MODE.get(code, mode) == mode, "STATUS", "`%s` is none of this mode" % code)
    asked = counts["miss"] + counts["missing"] + counts["reordered"]
    demand(is_stub or asked == 0, "STATUS", "only a client that runs again asks for steps")
    database, live = said.get("database"), said.get("live")
    if live is not None:
        demand(("tools" in live) != ("operations" in live), "STATUS", "`live` has not one of `tools` and `operations`")
        kind, other = ("tools", "OPERATION_NOT_ALLOWED") if "tools" in live else ("operations", "TOOL_NOT_ALLOWED")
        demand(live[kind] == sorted(set(live[kind])), "STATUS", "`%s` is not in order" % kind)
        demand(other not in skipped, "STATUS", "`%s` does not fit `%s`" % (other, kind))
        demand(kind == "tools" or said["bodies_by"] == "tag", "STATUS", "`bodies_by` does not fit `operations`")
        came = counts["matched"] + drift.get("ANSWER_DRIFT", 0) + drift.get("STATUS_DRIFT", 0)
        demand(live["sent"] == came, "STATUS", "not every call that was sent came to something")
    if database is not None:
        denied = sum(ordered(database["denied"]).values())
        demand(denied == skipped.get("STATEMENT_DENIED", 0), "STATUS", "others were denied")
        ordered(database["not_recreated"], "part")
        came = counts["matched"] + drift.get("DB_DRIFT", 0)
        demand(database["statements"] >= came, "STATUS", "more statements came to something than were sent")
        most = max(database.get("compared", {}).values(), default=0)
        demand(most <= database["statements"], "STATUS", "more statements were compared than were sent")
    check_tolerated(said)
    facts = {
        "MISS": counts["miss"],
        "MISSING": counts["missing"],
        "REORDERED": counts["reordered"],
        "TRUNCATED": counts["truncated"],
        "BUNDLE_INVALID": "reason" in said["bundle"],
        "NO_STEPS": counts["recorded"] == 0,
        "UPSTREAM_CONNECTION": said["upstream_connections"],
        "SCHEMA_PARTIAL": database is not None and database["not_recreated"],
        "SCRATCH_LEFT": database is not None and not database["gone"],
        "TRANSACTION_ESCAPE": database is not None and not database["kept"],
        "TAGS_ONLY": mode == "tag",
        "TOLERATED": counts["tolerated"],
    }
    reasons = sorted({code for code, holds in facts.items() if holds} | set(drift) | set(skipped))
    demand(said["reasons"] == reasons, "STATUS", "expected the reasons %s" % ", ".join(reasons))
    failing = {"BUNDLE_INVALID", "NO_STEPS", "UPSTREAM_CONNECTION", "MISS", "MISSING", "SCRATCH_LEFT", "TRANSACTION_ESCAPE", *drift}
    if said["matching"] == "strict":
        failing.add("REORDERED")
    if failing & set(reasons):
        status = "failed"
    else:
        status = "partial" if set(reasons) - {"TOLERATED"} else "success"
    demand(said["status"] == status, "STATUS", "expected the status %s, found %s" % (status, said["status"]))
    check_divergences(said, drift)


def check_tolerated(said):
    counts, determinism = said["counts"], said.get("determinism")
    steps = counts["tolerated"]
    if determinism is None:
        demand(steps == 0, "STATUS", "nothing was held against a tolerance")
        return
    demand(("policy" in determinism) == (determinism["from"] == "file"), "STATUS", "`policy` does not fit `from`")
    rows, count = determinism["tolerated"], determinism["differences"]
    are_all = len(rows) == count
    demand(are_all or LISTED <= len(rows) < count, "STATUS", "not all tolerated differences are listed")
    named = len({row["seq"] for row in rows})
    fits = named == steps if are_all else named <= steps <= count
    demand(fits and steps <= counts["matched"] + counts["truncated"], "STATUS", "other steps were tolerated")
    check_places(said, rows)
    for row in rows:
        old, new = row.get("recorded"), row.get("found")
        is_difference = old != new and (row["by"] == "ignored" or None not in (old, new))
        demand(is_difference and row["part"] == PART[said["mode"]], "STATUS", "nothing differs so at %s" % row["at"])


def check_places(said, rows):
    """Steps of tolerated differences, and where they are."""
    diverged = {row["seq"] for row in said["divergences"] if "seq" in row and row["code"] != "REORDERED"}
    steps, last = {}, None
    for row in rows:
        seq, at = row["seq"], row["at"]
        demand(POINTER.fullmatch(at), "STATUS", "a tolerated difference is at no JSON pointer")
        demand(seq == last or seq not in steps, "STATUS", "the tolerated differences of seq %d are apart" % seq)
        demand(seq not in diverged, "STATUS", "seq %d diverges, and is tolerated" % seq)
        call, places = steps.setdefault(seq, (row["call"], []))
        demand(call == row["call"], "STATUS", "seq %d is two calls" % seq)
        apart = all(at != one and not at.startswith(one + "/") and not one.startswith(at + "/") for one in places)
        demand(apart, "STATUS", "a difference of seq %d is tolerated twice" % seq)
        places.append(at)
        last = seq


def moment(text):
    try:
        return datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ")
    except ValueError:
        raise Refused("STATUS", "%s is no time" % text) from None


def check_beyond(said, row):
    at, beyond = row.get("at", []), row.get("beyond", [])
    demand(all(POINTER.fullmatch(one) for one in at), "STATUS", "a divergence is at no JSON pointer")
    demand(len(set(at)) == len(at), "STATUS", "a divergence is twice at one place")
    places = [one["at"] for one in beyond]
    demand(set(places) <= set(at) and len(set(places)) == len(places), "STATUS", "`beyond` is where nothing differs, or twice")
    demand(not beyond or "determinism" in said, "STATUS", "nothing was held against a tolerance")
    for one in beyond:
        demand(AMOUNT.fullmatch(one["within"]), "STATUS", "`within` is no amount")
        if "by" in one:
            demand(DISTANCE.fullmatch(one["by"]), "STATUS", "`by` is no distance")
            least = one["within"] if one["of"] == "absolute" else "0"
            is_more = decimal.Decimal(one["by"]).compare(decimal.Decimal(least), EXACT) > 0
            demand(is_more, "STATUS", "a distance of %s is not beyond %s" % (one["by"], least))


def check_divergences(said, drift):
    counts, rows, more = said["counts"], said["divergences"], said["divergences_more"]
    left = dict(drift, MISS=counts["miss"], MISSING=counts["missing"], REORDERED=counts["reordered"])
    left["BUNDLE_INVALID"] = 1 if "reason" in said["bundle"] else 0
    expected = sum(left.values())
    demand(len(rows) + more == expected, "STATUS", "expected %d divergences" % expected)
    demand(more == 0 or len(rows) >= LISTED, "STATUS", "divergences are left out where there is room")
    for row in rows:
        code = row["code"]
        left[code] = left.get(code, 0) - 1
        demand(left[code] >= 0, "STATUS", "more divergences are %s than are counted" % code)
        has = ("seq" in row, "call" in row)
        fits = has == (False, False) if code == "MISS" else not has[1] if code == "BUNDLE_INVALID" else has == (True, True)
        demand(fits, "STATUS", "%s is not at a step, or is at none" % code)
        check_beyond(said, row)
    steps = [row["seq"] for row in rows if "call" in row]
    demand(len(set(steps)) == len(steps), "STATUS", "a step diverges twice")
    listed = [row["seq"] for row in rows if "seq" in row]
    first = said.get("first_divergent_seq")
    if first is None:
        demand(not listed, "STATUS", "the first divergence is not stated")
    elif not listed:
        demand(more > 0, "STATUS", "a first divergence is stated of none")
    else:
        demand(first == min(listed) or more > 0 and first < min(listed), "STATUS", "another divergence is the first")


def tools_of(entry):
    return entry.get("facts", {}).get("tools_called", []) if entry.get("dialect") == "mcp" else []


def is_allowed(live, entry):
    if "tools" in live:
        return tools_of(entry)[0] in live["tools"]
    request = entry["request"]
    line = "%s %s" % (request["method"], request.get("target_tag"))
    return entry["operation"] in live["operations"] or line in live["operations"]


def is_step(said, entry):
    response = entry["response"]
    if "live" in said:
        is_kind = bool(tools_of(entry)) if "tools" in said["live"] else entry.get("dialect") == "json"
        return "upstream" in response and is_kind
    if "database" in said:
        return "upstream" in response and any(brings(source, entry) for source in said["database"]["sources"])
    side = said.get("side")
    if side is None:
        return True
    return "status" in response["client"] if side == "client" else "upstream" in response


def brings(source, entry):
    if "tool" in source:
        return source["tool"] in tools_of(entry)
    return entry.get("dialect") != "mcp" and "operation" in source and entry.get("operation") == source["operation"]


def check_bundle(statement, key, bundle):
    """R7."""
    said, of = statement["predicate"], statement["predicate"]["bundle"]
    demand("reason" not in of, "MISMATCH", "the bundle verifies")
    data = bundle.box.read("manifest.json")
    manifest = bundle.manifest
    digest = pef_verify.sha256(data).hex()
    tree = manifest["tree"]
    expected = {"run": manifest["run"], "root": tree["root"], "size": tree["size"], "manifest": "sha256:" + digest}
    for name, value in expected.items():
        demand(of[name] == value, "MISMATCH", "`%s`: expected %s" % (name, value))
    demand(statement["subject"][0]["digest"]["sha256"] == digest, "MISMATCH", "another subject")
    demand(said["policies"] == manifest.get("policies", []), "MISMATCH", "other policies")
    entries = [json.loads(line) for line in bundle.box.read("receipts.ndjson").split(b"\n") if line]
    steps = [entry for entry in entries if entry["kind"] == "call" and is_step(said, entry)]
    demand(len(steps) == said["counts"]["recorded"], "MISMATCH", "`recorded`: expected %d" % len(steps))
    if "live" in said:
        others = sum(not is_allowed(said["live"], entry) for entry in steps)
        code = "TOOL_NOT_ALLOWED" if "tools" in said["live"] else "OPERATION_NOT_ALLOWED"
        counted = {row["code"]: row["count"] for row in said["counts"]["skipped"]}.get(code, 0)
        demand(others == counted, "MISMATCH", "`%s`: expected %d" % (code, others))
    calls = {(entry["seq"], entry["call"]): entry for entry in entries if entry["kind"] == "call"}
    for row in said["divergences"]:
        demand("seq" not in row or (row["seq"], row["call"]) in calls, "MISMATCH", "a divergence is at no call")
    determinism = said.get("determinism", {"tolerated": []})
    for row in determinism["tolerated"]:
        entry = calls.get((row["seq"], row["call"]))
        demand(entry is not None, "MISMATCH", "a tolerated difference is at no call")
        declared = determinism["from"] == "file" or is_declared(bundle, entry, row)
        demand(declared, "MISMATCH", "the policy does not tolerate %s at %s" % (row["by"], row["at"]))
    demand(all(row["kid"] != key.kid for row in manifest["keys"]), "MISMATCH", "the key signs evidence")


def is_declared(bundle, entry, row):
    name = "policy/%s.json" % entry["policy"]["hash"].replace("sha256:", "", 1)
    if name not in bundle.names:
        return False
    route = json.loads(bundle.box.read(name)).get("routes", {}).get(entry["request"]["route"], {})
    of_route, tools = route.get("determinism", {}), tools_of(entry)
    if len(tools) == 1:
        own = of_route.get("tools", {}).get(tools[0])
    else:
        operations = [one for one in route.get("operations", []) if one["id"] == entry.get("operation")]
        own = operations[0].get("determinism") if operations else None
    rules = (own or of_route).get("tolerance", {}).get(row["part"], [])
    return any((row["by"] in rule or rule.get("as") == row["by"]) and leads(names(rule["at"]), names(row["at"])) for rule in rules)


def names(pointer):
    return [name.replace("~1", "/").replace("~0", "~") for name in pointer.split("/")[1:]]


def leads(path, to):
    reached = {0}
    for place in range(len(to) + 1):
        for at, name in enumerate(path):  # `**` may stand for nothing
            if name == "**" and at in reached:
                reached.add(at + 1)
        if place < len(to):
            known = [at for at in reached if at < len(path)]
            stay = {at for at in known if path[at] == "**"}
            reached = stay | {at + 1 for at in known if path[at] in ("*", to[place])}
    return len(path) in reached


def judge(certificate, bundle, trust=None, signer=None):
    """File names. -> {"ok", "reason", "detail", "status", "exit"}"""
    answer = {"ok": False, "reason": None, "detail": "", "status": None, "exit": 2}
    try:
        data = pef_verify._read_argument(certificate)
        key = None if signer is None else pef_verify.read_public_key(pef_verify._read_argument(signer))
        statement, own = read(data, key)
        check_status(statement["predicate"])
        found = pef_verify.verify_path(bundle, trust=trust)
        if not found["ok"]:
            return dict(answer, reason=found["reason"], detail=found["detail"], exit=found["exit"])
        opened = pef_verify.Bundle(pef_verify.find_schemas(), bundle, None)
        opened.verify()
        check_bundle(statement, own, opened)
    except Refused as wrong:
        return dict(answer, reason=wrong.code, detail=wrong.detail)
    except pef_verify.Unreadable as wrong:
        return dict(answer, reason=wrong.code, detail=wrong.detail, exit=6)
    except OSError as error:
        return dict(answer, reason="FILE_UNREADABLE", detail=error.strerror or "", exit=6)
    return dict(answer, ok=True, status=statement["predicate"]["status"], exit=0)


def main(argv=None):
    parser = argparse.ArgumentParser(description="Judges a Replay Certificate (spec/replay.md).")
    parser.add_argument("certificate")
    parser.add_argument("--bundle", required=True)
    parser.add_argument("--trust")
    parser.add_argument("--signer")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(argv)
    answer = judge(asked.certificate, asked.bundle, asked.trust, asked.signer)
    if asked.json:
        print(json.dumps(answer))
    elif answer["ok"]:
        print("holds: the replay was a %s" % answer["status"])
    else:
        print("REFUSED %s: %s" % (answer["reason"], pef_verify._shown(answer["detail"], 300)))
    return answer["exit"]


if __name__ == "__main__":
    sys.exit(main())
