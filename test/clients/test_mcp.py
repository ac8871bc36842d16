"""The official MCP client and the npm reference server, with the gateway between them."""

import asyncio
import os
import pathlib
import subprocess
import uuid

import pytest
from conftest import ROOT, Daemon, free_port, wait_for

SERVER = ROOT / "test/node_modules/@modelcontextprotocol/server-everything/dist/index.js"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    if not SERVER.exists():
        if os.environ.get("REQUIRE_REAL") == "1":
            pytest.fail(f"the reference MCP server is missing: {SERVER}")
        pytest.skip("SKIPPED: the reference MCP server is not installed (make setup)")
    port = free_port()
    log = open(tmp_path_factory.mktemp("mcp") / "log", "wb")
    process = subprocess.Popen(
        ["node", str(SERVER), "streamableHttp"], env={**os.environ, "PORT": str(port)}, stdout=log, stderr=log
    )

    def up():
        import socket

        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return True
        except OSError:
            return False

    wait_for("the MCP server", up)
    yield f"http://127.0.0.1:{port}"
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def gateway(server, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mcp-gateway")
    policy = folder / "policy.yaml"
    policy.write_text(
        """version: 1
name: mcp-test
defaults: { verdict: allow, on_not_evaluated: allow, body_storage: hmac, disconnect: cancel }
rules:
  - id: no-env
    when: { operation: mcp.tools/call, tool: [get-env, printEnv] }
    verdict: block
    reason: TOOL_DENIED
"""
    )
    daemon = Daemon(folder, {"everything": server}, policy=policy)
    yield daemon
    daemon.stop()


def test_tools_are_listed_and_called_and_a_denied_one_never_reaches_the_server(gateway):
    from mcp import ClientSession
    from mcp.client.streamable_http import streamable_http_client

    run = f"mcp-{uuid.uuid4()}"

    async def go():
        import httpx2

        async with httpx2.AsyncClient(headers={"estoppel-run": run}, timeout=30) as http:
            async with streamable_http_client(f"{gateway.base}/everything/mcp", http_client=http) as streams:
                async with ClientSession(streams[0], streams[1]) as session:
                    await session.initialize()
                    listed = [tool.name for tool in (await session.list_tools()).tools]
                    answer = await session.call_tool("echo", {"message": "evidence"})
                    denied = next(name for name in listed if name in ("get-env", "printEnv"))
                    try:
                        await session.call_tool(denied, {})
                        refused = None
                    except Exception as error:  # the client's own error class differs by version
                        refused = error
                    return listed, answer, refused

    listed, answer, refused = asyncio.run(go())
    assert "echo" in listed
    assert "evidence" in answer.content[0].text
    assert refused is not None and "blocks this tool" in str(refused)

    def settled():
        rows = gateway.cli("run", "show", run, "--admin", gateway.admin)["data"]
        return rows["calls"] >= 5

    wait_for("the receipts", settled)
    receipts = gateway.receipts(run)
    by_operation = {}
    for receipt in receipts:
        by_operation.setdefault(receipt["operation"], []).append(receipt)
    assert "mcp.initialize" in by_operation and "mcp.tools/list" in by_operation
    calls = by_operation["mcp.tools/call"]
    verdicts = {tuple(call["facts"]["tools_called"]): call["verdict"]["action"] for call in calls}
    assert verdicts[("echo",)] == "allow"
    blocked = [call for call in calls if call["verdict"]["action"] == "block"]
    assert len(blocked) == 1 and "upstream" not in blocked[0]["response"]
