"""The official Python SDK on both sides of the gateway, in each era it speaks; and the transport of 2024-11-05, which is only relayed."""

import asyncio
import os
import subprocess
import sys
import uuid

import pytest
from conftest import Daemon, free_port, wait_for
from test_mcp import SERVER, error_of

PROGRAM = """
import sys
from mcp.server import MCPServer

server = MCPServer("adder")

@server.tool()
def add(a: int, b: int) -> int:
    "Adds."
    return a + b

@server.tool()
def shell(command: str) -> str:
    "Runs."
    raise SystemExit("it was called")

@server.resource("note://one")
def one() -> str:
    return "first note"

server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
"""
POLICY = """version: 1
name: eras
defaults: { verdict: allow, on_not_evaluated: allow, judge: { unknown_tools: json } }
rules:
  - { id: no-shell, when: { tool: [shell, get-env] }, verdict: block, reason: TOOL_DENIED }
"""


def listens(port):
    import socket

    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


def started(tmp_path, command, port, environment=None):
    log = open(tmp_path / "server.log", "wb")
    process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    wait_for("the server", lambda: listens(port))
    return process


@pytest.mark.parametrize(("mode", "version"), [("auto", "2026-07-28"), ("legacy", "2025-11-25")])
def test_the_official_client_and_server_agree_through_the_gateway(tmp_path, mode, version):
    import httpx2
    from mcp import Client
    from mcp.client.streamable_http import streamable_http_client

    port = free_port()
    server = started(tmp_path, [sys.executable, "-c", PROGRAM, str(port)], port)
    (tmp_path / "policy.yaml").write_text(POLICY)
    daemon = Daemon(tmp_path, {"adder": f"http://127.0.0.1:{port}"}, policy=tmp_path / "policy.yaml")
    run = f"era-{uuid.uuid4()}"

    async def go():
        async with httpx2.AsyncClient(headers={"estoppel-run": run}, timeout=30) as http:
            async with Client(streamable_http_client(f"{daemon.base}/adder/mcp", http_client=http), mode=mode) as client:
                tools = [tool.name for tool in (await client.list_tools()).tools]
                added = await client.call_tool("add", {"a": 1, "b": 2})
                wrong = await error_of(client.call_tool("add", {"a": "x", "b": 2}))
                denied = await error_of(client.call_tool("shell", {"command": "id"}))
                note = await client.read_resource("note://one")
                return client.protocol_version, tools, added, wrong, denied, note

    try:
        spoken, tools, added, wrong, denied, note = asyncio.run(go())
        assert (spoken, tools) == (version, ["add"])
        assert added.structured_content == {"result": 3} and note.contents[0].text == "first note"
        assert "does not keep its contract" in wrong and "blocks this tool" in denied
        wait_for("the receipts", lambda: daemon.cli("run", "show", run, "--admin", daemon.admin)["data"]["calls"] >= 5)
        receipts = daemon.receipts(run)
        calls = [receipt for receipt in receipts if receipt["operation"] == "mcp.tools/call"]
        assert [call["verdict"]["action"] for call in calls] == ["allow", "block", "block"]
        assert all("upstream" not in call["response"] for call in calls[1:])
        assert [receipt["verdict"]["action"] for receipt in receipts if receipt["operation"] == "mcp.tools/list"][0] == "repair"
        assert ("mcp.initialize" in [receipt["operation"] for receipt in receipts]) == (mode == "legacy")
        assert server.poll() is None, "the denied tool ends the server"
    finally:
        daemon.stop()
        server.kill()
        server.wait()


def test_the_transport_of_2024_11_05_is_relayed_and_its_calls_are_ruled(tmp_path):
    if not SERVER.exists():
        if os.environ.get("REQUIRE_REAL") == "1":
            pytest.fail(f"the reference MCP server is missing: {SERVER}")
        pytest.skip("SKIPPED: the reference MCP server is not installed (make setup)")
    from mcp import ClientSession
    from mcp.client.sse import sse_client

    port = free_port()
    server = started(tmp_path, ["node", str(SERVER), "sse"], port, {**os.environ, "PORT": str(port)})
    (tmp_path / "policy.yaml").write_text(POLICY.replace(", judge: { unknown_tools: json }", ""))
    routes = """[[route]]
name = "messages"
path = "/message"
upstream = "legacy"
dialect = "mcp"
"""
    daemon = Daemon(tmp_path, {"legacy": f"http://127.0.0.1:{port}"}, policy=tmp_path / "policy.yaml", extra=routes)

    def blocked():
        return daemon.metric("estoppel_calls_total", route="messages", verdict="block")

    async def go():
        async with sse_client(f"{daemon.base}/legacy/sse") as streams:
            async with ClientSession(streams[0], streams[1]) as session:
                await session.initialize()
                echoed = await session.call_tool("echo", {"message": "evidence"})
                # The client does not look at what its POST is answered, so the call has no end.
                denied = asyncio.create_task(error_of(session.call_tool("get-env", {})))
                await asyncio.to_thread(wait_for, "the refusal", lambda: blocked() == 1)
                denied.cancel()
                return echoed

    try:
        assert "evidence" in asyncio.run(go()).content[0].text
    finally:
        daemon.stop()
        server.kill()
        server.wait()
