"""A server that speaks over standard input and output, behind `estoppel mcp bridge` and the gateway; the client is the official one."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
import uuid

import pytest
from conftest import BIN, Daemon, wait_for
from test_mcp import SERVER, in_session

POLICY = """version: 1
name: bridged
defaults: { verdict: allow, on_not_evaluated: allow, judge: { unknown_tools: block } }
rules:
  - { id: no-env, when: { tool: get-env }, verdict: block, reason: TOOL_DENIED }
"""


class Bridge:
    def __init__(self, folder, *command, options=()):
        self.log = folder / f"bridge-{uuid.uuid4()}.log"
        words = [BIN / "estoppel", "mcp", "bridge", "--listen", "127.0.0.1:0", *options, "--", *command]
        self.process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=open(self.log, "wb"))
        self.url = wait_for("the bridge", lambda: re.search(r"http://\S+", self.log.read_text())).group() + "/mcp"

    def children(self):
        listed = subprocess.run(["ps", "--ppid", str(self.process.pid), "-o", "pid="], capture_output=True, text=True).stdout
        return listed.split()

    def stop(self):
        children = self.children()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(20) == 0, self.log.read_text()
        assert not any(os.path.exists(f"/proc/{child}") for child in children), "a server outlives the bridge"


@pytest.fixture
def bridge(tmp_path):
    if not SERVER.exists():
        if os.environ.get("REQUIRE_REAL") == "1":
            pytest.fail(f"the reference MCP server is missing: {SERVER}")
        pytest.skip("SKIPPED: the reference MCP server is not installed (make setup)")
    bridge = Bridge(tmp_path, "node", str(SERVER), "stdio")
    yield bridge
    bridge.stop()


def test_the_official_client_works_with_a_bridged_server_under_rules(bridge, tmp_path):
    (tmp_path / "policy.yaml").write_text(POLICY)
    daemon = Daemon(tmp_path, {"bridged": bridge.url.removesuffix("/mcp")}, policy=tmp_path / "policy.yaml")
    run = f"bridged-{uuid.uuid4()}"
    progress = []

    async def use(session):
        async def seen(done, total, _):
            progress.append((done, total))

        names = [tool.name for tool in (await session.list_tools()).tools]
        echoed = await session.call_tool("echo", {"message": "evidence"})
        long = await session.call_tool("trigger-long-running-operation", {"duration": 0.2, "steps": 2}, progress_callback=seen)
        return names, echoed, long

    try:
        names, echoed, long = in_session(f"{daemon.base}/bridged/mcp", run, use)
        assert "echo" in names and "get-env" not in names
        assert "evidence" in echoed.content[0].text and not long.is_error
        # It comes in the session's own stream, so the last of it may come after the answer.
        assert progress and progress == [(1, 2), (2, 2)][: len(progress)]
        wait_for("the receipts", lambda: daemon.cli("run", "show", run, "--admin", daemon.admin)["data"]["calls"] >= 5)
        operations = [receipt["operation"] for receipt in daemon.receipts(run)]
        assert operations.count("mcp.tools/call") == 2 and "mcp.initialize" in operations
        wait_for("the session's process to end", lambda: not bridge.children())
    finally:
        daemon.stop()


# A server that answers each request with the environment it has and its own process id.
ECHO = """
import json, os, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("method") == "die":
        sys.exit(3)
    if "id" in message:
        result = {"pid": os.getpid(), "environment": sorted(os.environ), "id": message["id"]}
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
"""


def post(url, message, **headers):
    headers = {"content-type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    request = urllib.request.Request(url, json.dumps({"jsonrpc": "2.0", **message}).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            text = answer.read().decode()
            found = re.findall(r"^data: (.*)$", text, re.M)
            return answer.status, answer.headers.get("mcp-session-id"), json.loads(found[-1]) if found else None
    except urllib.error.HTTPError as error:
        return error.code, None, json.loads(error.read())


@pytest.fixture
def echo(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_OF_THE_SHELL", "x")
    monkeypatch.setenv("GIVEN_BY_NAME", "x")
    bridge = Bridge(tmp_path, sys.executable, "-c", ECHO, options=["--env", "GIVEN_BY_NAME", "--sessions-max", "3"])
    yield bridge
    bridge.stop()


def test_each_session_has_a_process_of_its_own_and_stateless_requests_share_one(echo):
    begin = {"id": "first", "method": "initialize"}
    _, one, first = post(echo.url, begin)
    _, two, second = post(echo.url, begin)
    assert one != two and first["result"]["pid"] != second["result"]["pid"]
    assert first["id"] == "first", "the client gets its own id back"
    assert post(echo.url, {"id": 2, "method": "ping"}, mcp_session_id=one)[2]["result"]["pid"] == first["result"]["pid"]
    environment = first["result"]["environment"]
    assert "GIVEN_BY_NAME" in environment and "PATH" in environment and "SECRET_OF_THE_SHELL" not in environment
    modern = {"mcp_protocol_version": "2026-07-28"}
    shared = {post(echo.url, {"id": 1, "method": "tools/list"}, **modern)[2]["result"]["pid"] for _ in range(3)}
    assert len(shared) == 1 and not shared & {first["result"]["pid"], second["result"]["pid"]}
    assert post(echo.url, {"id": 1, "method": "tools/list"})[0] == 400
    assert post(echo.url, {"id": 1, "method": "tools/list"}, mcp_session_id="0" * 32)[0] == 404
    assert post(echo.url, {"id": 3, "method": "initialize"})[0] == 200, "the session that was idle longest makes room"
    assert post(echo.url, {"id": 4, "method": "ping"}, mcp_session_id=two)[0] == 404
    assert post(echo.url, {"id": 5, "method": "ping"}, mcp_session_id=one)[0] == 200


def test_a_server_that_ends_ends_its_session_and_a_new_one_may_begin(echo):
    _, session, _ = post(echo.url, {"id": 1, "method": "initialize"})
    status, _, answer = post(echo.url, {"id": 2, "method": "die"}, mcp_session_id=session)
    assert status == 200 and answer["error"]["message"] == "the server has ended" and answer["id"] == 2
    wait_for("the session to be gone", lambda: post(echo.url, {"id": 3, "method": "ping"}, mcp_session_id=session)[0] == 404)
    assert post(echo.url, {"id": 4, "method": "initialize"})[0] == 200
    modern = {"mcp_protocol_version": "2026-07-28"}
    post(echo.url, {"id": 1, "method": "die"}, **modern)
    wait_for("another process", lambda: post(echo.url, {"id": 2, "method": "tools/list"}, **modern)[0] == 200)


def test_a_session_ends_when_its_client_says_so(echo):
    _, session, _ = post(echo.url, {"id": 1, "method": "initialize"})
    request = urllib.request.Request(echo.url, method="DELETE", headers={"mcp-session-id": session})
    assert urllib.request.urlopen(request, timeout=20).status == 200
    assert post(echo.url, {"id": 2, "method": "ping"}, mcp_session_id=session)[0] == 404
    wait_for("its process to end", lambda: not echo.children())


def test_web_pages_and_other_paths_get_nothing(echo):
    begin = {"id": 1, "method": "initialize"}
    assert post(echo.url, begin, origin="http://evil.example")[0] == 403
    assert post(echo.url, begin, host="evil.example")[0] == 403
    assert post(echo.url.removesuffix("/mcp") + "/other", begin)[0] == 404
    assert not echo.children()
