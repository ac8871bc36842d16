"""HTTP+SSE, the transport of 2024-11-05, by the official SDKs on both sides of the gateway: a client posts to one URL and gets all
answers in one stream."""

import asyncio
import json
import os
import subprocess
import sys
import uuid

import pytest
from conftest import ROOT, Daemon, free_port, wait_for
from test_mcp import SERVER, error_of
from test_mcp_eras import started

PROGRAM = """
import sys
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp import types
from pydantic import BaseModel

server = MCPServer("legacy")

class Name(BaseModel):
    name: str

@server.tool()
def add(a: int, b: int) -> int:
    "Adds."
    return a + b

@server.tool()
def card() -> str:
    "Gives a card."
    return "4111 1111 1111 1111"

@server.tool()
async def ask(ctx: Context) -> str:
    "Asks its client."
    said = await ctx.session.create_message(
        [types.SamplingMessage(role="user", content=types.TextContent(type="text", text="who?"))], max_tokens=9
    )
    named = await ctx.elicit("name?", Name)
    return said.content.text + " " + named.data.name

@server.tool()
def shell(command: str) -> str:
    "Runs."
    print("SHELL", command, file=sys.stderr, flush=True)
    return "ran"

server.run("sse", host="127.0.0.1", port=int(sys.argv[1]))
"""
RULES = """rules:
  - { id: no-shell, when: { tool: [shell, get-env] }, verdict: block, reason: TOOL_DENIED }
"""
STRICT = f"""version: 1
name: sse
defaults: {{ verdict: allow, judge: {{ unknown_tools: block }} }}
detectors: {{ pii: {{ only: [pii.card], mode: enforce }} }}
{RULES}"""
OPEN = f"""version: 1
name: sse
defaults: {{ verdict: allow, on_not_evaluated: allow }}
{RULES}"""


@pytest.fixture
def world(tmp_path, request):
    """A gateway with the server behind its route `legacy`, which cuts its path off."""
    policy, command = getattr(request, "param", (STRICT, None))
    port = free_port()
    program = [sys.executable, "-c", PROGRAM, str(port)] if command is None else [*command]
    server = started(tmp_path, program, port, {**os.environ, "PORT": str(port)})
    (tmp_path / "policy.yaml").write_text(policy)
    route = """[[route]]
name = "sse"
path = "/servers/legacy"
strip_path = true
upstream = "legacy"
dialect = "mcp"
"""
    daemon = Daemon(tmp_path, {"legacy": f"http://127.0.0.1:{port}"}, policy=tmp_path / "policy.yaml", extra=route)
    yield daemon
    daemon.stop()
    server.kill()
    server.wait()


def in_session(daemon, run, use, **callbacks):
    from mcp import ClientSession
    from mcp.client.sse import sse_client

    async def go():
        async with sse_client(f"{daemon.base}/servers/legacy/sse", headers={"estoppel-run": run}) as streams:
            async with ClientSession(streams[0], streams[1], **callbacks) as session:
                await asyncio.wait_for(session.initialize(), 20)
                return await asyncio.wait_for(use(session), 20)

    return asyncio.run(go())


def receipts(daemon, run, calls):
    wait_for("the receipts", lambda: daemon.cli("run", "show", run, "--admin", daemon.admin)["data"]["calls"] >= calls)
    found = {}
    for receipt in daemon.receipts(run):
        key = "stream" if receipt["request"]["method"] == "GET" else receipt["operation"]
        found.setdefault(key, []).append(receipt)
    return found


def test_lists_are_filtered_and_pinned_and_calls_are_ruled_and_judged(world, tmp_path):
    run = f"sse-{uuid.uuid4()}"

    async def use(session):
        early = await error_of(session.call_tool("add", {"a": 1, "b": 2}))
        tools = [tool.name for tool in (await session.list_tools()).tools]
        denied = await error_of(session.call_tool("shell", {"command": "id"}))
        wrong = await error_of(session.call_tool("add", {"a": "x", "b": 2}))
        return early, tools, denied, wrong, await session.call_tool("add", {"a": 1, "b": 2})

    early, tools, denied, wrong, added = in_session(world, run, use)
    assert "add" in early, "what was not listed is not called"
    assert tools == ["add", "card", "ask"]
    assert "blocks this tool" in denied and "does not keep its contract" in wrong
    assert added.structured_content == {"result": 3}
    assert "SHELL" not in (tmp_path / "server.log").read_text()

    found = receipts(world, run, 8)
    calls = found["mcp.tools/call"]
    reasons = [call["verdict"].get("reason") for call in calls]
    assert reasons == ["CONTRACT_MISSING", "TOOL_DENIED", "REQUEST_VIOLATED", None]
    assert all("upstream" not in call["response"] for call in calls[:3])
    assert [call["response"]["client"]["status"] for call in calls] == [202, 202, 202, 202]
    assert calls[3]["contract"]["request"]["source"] == "mcp"
    [stream] = found["stream"]
    assert stream["contract"]["response"]["source"] == "mcp", "results are held against what the server said"
    assert stream["verdict"]["action"] == "repair"
    assert {edit["op"] for edit in stream["repair"]["edits"]} == {"endpoint", "tool_denied"}


def test_what_detectors_block_does_not_come_through_the_stream(world):
    run = f"sse-{uuid.uuid4()}"

    async def use(session):
        await session.list_tools()
        return await error_of(session.call_tool("card", {}))

    assert "4111" not in in_session(world, run, use)
    [stream] = receipts(world, run, 5)["stream"]
    assert (stream["verdict"]["action"], stream["verdict"]["reason"]) == ("block", "PII_FOUND")


@pytest.mark.parametrize("world", [(OPEN, None)], indirect=True)
def test_what_the_server_asks_its_client_is_relayed_and_answered(world):
    from mcp import types

    async def sampled(_context, _params):
        content = types.TextContent(type="text", text="a model")
        return types.CreateMessageResult(role="assistant", content=content, model="m")

    async def elicited(_context, _params):
        return types.ElicitResult(action="accept", content={"name": "of a user"})

    async def use(session):
        tools = [tool.name for tool in (await session.list_tools()).tools]
        return tools, await session.call_tool("ask", {})

    run = f"sse-{uuid.uuid4()}"
    tools, answer = in_session(world, run, use, sampling_callback=sampled, elicitation_callback=elicited)
    assert answer.content[0].text == "a model of a user"
    assert "shell" not in tools, "lists are filtered without contracts too"
    assert len(receipts(world, run, 7)["mcp.response"]) == 2


TYPESCRIPT = """
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { SSEClientTransport } from "@modelcontextprotocol/sdk/client/sse.js";
const client = new Client({ name: "t", version: "1" });
await client.connect(new SSEClientTransport(new URL(process.argv[1])));
const tools = (await client.listTools()).tools.map((tool) => tool.name);
const denied = await client.callTool({ name: "get-env", arguments: {} }).then(() => null, (error) => error.message);
const echoed = await client.callTool({ name: "echo", arguments: { message: "evidence" } });
console.log(JSON.stringify({ tools, denied, echoed: echoed.content[0].text }));
await client.close();
"""


def everything():
    return (OPEN, ["node", str(SERVER), "sse"])


@pytest.mark.parametrize("world", [everything()], indirect=True)
def test_the_typescript_sdk_understands_a_denial_on_both_sides_of_its_own(world):
    if not SERVER.exists():
        if os.environ.get("REQUIRE_REAL") == "1":
            pytest.fail(f"the reference MCP server is missing: {SERVER}")
        pytest.skip("SKIPPED: the reference MCP server is not installed (make setup)")
    url = f"{world.base}/servers/legacy/sse"
    done = subprocess.run(
        ["node", "--input-type=module", "-e", TYPESCRIPT, url], cwd=ROOT / "test", capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert "echo" in said["tools"] and "get-env" not in said["tools"]
    assert "blocks this tool" in said["denied"] and "evidence" in said["echoed"]
