"""Several servers behind one route, by the official Python SDK on both sides: to its client they are one."""

import asyncio
import os
import subprocess
import sys
import uuid

import pytest
from conftest import Daemon, free_port, wait_for
from test_mcp import SERVER, error_of
from test_mcp_eras import listens

FILES = """
import sys
from mcp.server import MCPServer

server = MCPServer("files")

@server.tool()
def read(path: str) -> str:
    "Reads."
    return "read " + path

@server.tool()
def shell(command: str) -> str:
    "Runs."
    print("SHELL", command, file=sys.stderr, flush=True)
    return "ran"

@server.prompt()
def hello() -> str:
    return "hello"

server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
"""
MAIL = """
import sys
from typing import Annotated
from mcp.server import MCPServer
from pydantic import Field

server = MCPServer("mail")

@server.tool()
def read(count: Annotated[int, Field(json_schema_extra={"x-mcp-header": "Count"})]) -> int:
    "Counts what is read."
    return count

server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
"""
POLICY = """version: 1
name: federated
defaults: { verdict: allow, judge: { unknown_tools: block } }
rules:
  - { id: no-shell, when: { tool: files__shell }, verdict: block, reason: TOOL_DENIED }
"""


class Servers:
    """Servers by name, each on a port of its own."""

    def __init__(self, folder):
        self.folder, self.ports, self.running = folder, {}, {}

    def start(self, name, program=None, command=None, environment=None):
        port = self.ports.setdefault(name, free_port())
        log = open(self.folder / f"{name}.log", "ab")
        command = command or [sys.executable, "-c", program, str(port)]
        environment = {**os.environ, "PORT": str(port), **(environment or {})}
        self.running[name] = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        wait_for(f"the server {name}", lambda: listens(port))

    def kill(self, name):
        process = self.running.pop(name)
        process.kill()
        process.wait()


@pytest.fixture
def servers(tmp_path):
    servers = Servers(tmp_path)
    yield servers
    for name in list(servers.running):
        servers.kill(name)


def gateway(folder, servers, policy=POLICY):
    (folder / "policy.yaml").write_text(policy)
    upstreams = "".join(
        f'[upstream.{name}-server]\nurl = "http://127.0.0.1:{port}/mcp"\n' for name, port in servers.ports.items()
    )
    named = ", ".join(f'{name} = "{name}-server"' for name in servers.ports)
    route = f'[[route]]\nname = "tools"\npath = "/tools/mcp"\ndialect = "mcp"\nfederation = {{ {named} }}\n'
    return Daemon(folder, {}, policy=folder / "policy.yaml", extra=upstreams + route)


def as_client(daemon, run, mode, use):
    import httpx2
    from mcp import Client
    from mcp.client.streamable_http import streamable_http_client

    async def go():
        async with httpx2.AsyncClient(headers={"estoppel-run": run}, timeout=30) as http:
            async with Client(streamable_http_client(f"{daemon.base}/tools/mcp", http_client=http), mode=mode) as client:
                return client.protocol_version, await use(client)

    return asyncio.run(asyncio.wait_for(go(), 60))


def receipts(daemon, run, count):
    wait_for("the receipts", lambda: daemon.cli("run", "show", run, "--admin", daemon.admin)["data"]["calls"] >= count)
    return daemon.receipts(run)


@pytest.mark.parametrize(("mode", "version"), [("auto", "2026-07-28"), ("legacy", "2025-11-25")])
def test_two_servers_are_one_and_each_call_goes_to_its_own(tmp_path, servers, mode, version):
    servers.start("files", FILES)
    servers.start("mail", MAIL)
    daemon = gateway(tmp_path, servers)
    run = f"federated-{uuid.uuid4()}"

    async def use(client):
        early = await error_of(client.call_tool("files__read", {"path": "a"}))
        tools = [tool.name for tool in (await client.list_tools()).tools]
        read = await client.call_tool("files__read", {"path": "a"})
        counted = await client.call_tool("mail__read", {"count": 3})
        errors = [
            await error_of(client.call_tool("files__shell", {"command": "id"})),
            await error_of(client.call_tool("mail__read", {"count": "x"})),
            await error_of(client.call_tool("other__read", {})),
            await error_of(client.list_resources()),
        ]
        prompts = [prompt.name for prompt in (await client.list_prompts()).prompts]
        said = await client.get_prompt("files__hello")
        assert (prompts, said.messages[0].content.text) == (["files__hello"], "hello")
        return early, tools, read, counted, errors

    try:
        spoken, (early, tools, read, counted, errors) = as_client(daemon, run, mode, use)
        assert (spoken, tools) == (version, ["files__read", "mail__read"])
        assert read.structured_content == {"result": "read a"} and counted.structured_content == {"result": 3}
        denied, wrong, unknown, resources = errors
        assert "files__read" in early and "blocks this tool" in denied and "does not keep its contract" in wrong
        assert unknown and "and nothing else" in resources
        assert "SHELL" not in (tmp_path / "files.log").read_text()
        found = receipts(daemon, run, 11)
        calls = [receipt for receipt in found if receipt["operation"] == "mcp.tools/call"]
        went = {(call["facts"]["tools_called"][0], call["verdict"]["action"], call.get("upstream")) for call in calls}
        assert went == {
            ("files__read", "block", None),
            ("files__read", "allow", "files-server"),
            ("mail__read", "allow", "mail-server"),
            ("files__shell", "block", None),
            ("mail__read", "block", None),
            ("other__read", "block", None),
        }
        lists = [receipt for receipt in found if receipt["operation"] == "mcp.tools/list"]
        assert lists[0]["upstream"] == "files-server+mail-server" and lists[0]["verdict"]["action"] == "repair"
        pinned = daemon.cli("mcp", "pins", "list", "--admin", daemon.admin)["data"]["pins"]
        assert {pin["tool"] for pin in pinned} == {"files__read", "files__shell", "mail__read"}
    finally:
        daemon.stop()


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_server_that_is_gone_is_told_and_the_others_work_until_it_is_back(tmp_path, servers, mode):
    servers.start("files", FILES)
    servers.start("mail", MAIL)
    daemon = gateway(tmp_path, servers)
    run = f"federated-{uuid.uuid4()}"

    async def use(client):
        whole = await client.list_tools()
        servers.kill("mail")
        part = await client.list_tools()
        gone = await error_of(client.call_tool("mail__read", {"count": 1}))
        read = await client.call_tool("files__read", {"path": "b"})
        servers.start("mail", MAIL)
        back = await client.call_tool("mail__read", {"count": 2})
        return whole, part, gone, read, back

    try:
        _, (whole, part, gone, read, back) = as_client(daemon, run, mode, use)
        assert [tool.name for tool in whole.tools] == ["files__read", "mail__read"]
        assert [tool.name for tool in part.tools] == ["files__read"]
        assert part.model_dump(by_alias=True)["_meta"]["estoppel/unavailable"] == ["mail"]
        assert gone and read.structured_content == {"result": "read b"}
        assert back.structured_content == {"result": 2}
        down = [item for receipt in receipts(daemon, run, 6) for item in receipt.get("downgrades", []) if item.get("detail") == "mail-server"]
        assert down and down[0]["code"] == "UPSTREAM_CONNECT"
        assert "mail" in (tmp_path / "estoppeld.log").read_text()
    finally:
        daemon.stop()


def test_where_one_server_speaks_earlier_versions_only_all_are_asked_in_sessions(tmp_path, servers):
    if not SERVER.exists():
        if os.environ.get("REQUIRE_REAL") == "1":
            pytest.fail(f"the reference MCP server is missing: {SERVER}")
        pytest.skip("SKIPPED: the reference MCP server is not installed (make setup)")
    servers.start("files", FILES)
    servers.start("demo", command=["node", str(SERVER), "streamableHttp"])
    daemon = gateway(tmp_path, servers)

    async def use(client):
        tools = [tool.name for tool in (await client.list_tools()).tools]
        echoed = await client.call_tool("demo__echo", {"message": "evidence"})
        return tools, echoed, await client.call_tool("files__read", {"path": "c"})

    try:
        version, (tools, echoed, read) = as_client(daemon, f"federated-{uuid.uuid4()}", "auto", use)
        assert version == "2025-11-25" and {"demo__echo", "files__read"} <= set(tools)
        assert "evidence" in echoed.content[0].text and read.structured_content == {"result": "read c"}
    finally:
        daemon.stop()
