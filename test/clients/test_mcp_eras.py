"""The official Python SDK on both sides of the gateway, in each era it speaks."""

import asyncio
import subprocess
import sys
import uuid

import pytest
from conftest import Daemon, free_port, wait_for
from test_mcp import error_of

PROGRAM = """
import sys
from typing import Annotated
from mcp.server import MCPServer
from pydantic import Field

server = MCPServer("adder")

@server.tool()
def add(a: int, b: int) -> int:
    "Adds."
    return a + b

@server.tool()
def where(region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})]) -> str:
    "Says its region, which later versions have in a header too."
    return region

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
                place = await client.call_tool("where", {"region": "Zürich"})
                assert place.structured_content == {"result": "Zürich"}
                return client.protocol_version, tools, added, wrong, denied, note

    try:
        spoken, tools, added, wrong, denied, note = asyncio.run(go())
        assert (spoken, tools) == (version, ["add", "where"])
        assert added.structured_content == {"result": 3} and note.contents[0].text == "first note"
        assert "does not keep its contract" in wrong and "blocks this tool" in denied
        wait_for("the receipts", lambda: daemon.cli("run", "show", run, "--admin", daemon.admin)["data"]["calls"] >= 6)
        receipts = daemon.receipts(run)
        calls = [receipt for receipt in receipts if receipt["operation"] == "mcp.tools/call"]
        assert [call["verdict"]["action"] for call in calls] == ["allow", "block", "block", "allow"]
        assert all("upstream" not in call["response"] for call in calls[1:3])
        assert [receipt["verdict"]["action"] for receipt in receipts if receipt["operation"] == "mcp.tools/list"][0] == "repair"
        assert ("mcp.initialize" in [receipt["operation"] for receipt in receipts]) == (mode == "legacy")
        assert server.poll() is None, "the denied tool ends the server"
    finally:
        daemon.stop()
        server.kill()
        server.wait()
