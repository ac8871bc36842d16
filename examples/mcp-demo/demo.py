"""An MCP client, an MCP server, and the gateway between them: `make demo-mcp`. Prints only what the running parts said.

Nothing here knows the gateway's inside: the client and the server are the official SDK's as it comes, approving is
`estoppel hold approve` in a process of its own, and what is shown at the end is read from the feed's file, /metrics and
the sealed bundle. The first thing that is not there ends it with exit code 1. STEP=1 lets you approve by hand.
"""

import asyncio
import importlib.metadata
import json
import os
import pathlib
import subprocess
import sys
import urllib.request

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from mcp import Client

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from stage import BIN, Missing, Stage, check, free_port, listens, perform, say, settings, title, wait_for  # noqa: E402

BY_HAND = os.environ.get("STEP") == "1"
CALL_SECONDS = 600 if BY_HAND else 30
SHOWN = ("class_uid", "class_name", "disposition", "severity", "status_code", "message")

MORE = """[upstream.shop]
url = "{server}"
[[route]]
name = "shop"
upstream = "shop"
dialect = "mcp"
[[feeds]]
name = "siem"
format = "ocsf"
to = {{ file = {{ path = "{folder}/ocsf.ndjson" }} }}
"""


class Demo(Stage):
    def __init__(self, folder):
        super().__init__(folder)
        self.seen_by_server = folder / "calls.ndjson"

    def begin(self):
        check(f"{BIN}/estoppeld, which `make demo-mcp` builds", (BIN / "estoppeld").exists())
        self.seen_by_server.touch()
        self.write_policy()
        self.start_server()
        self.start_gateway()
        say("client", f"mcp {importlib.metadata.version('mcp')}, as it comes")
        say("server", f"{self.server}/mcp   tools look_up_order, refund, run_shell")
        say("gateway", f"{self.gateway}/mcp   admin {self.admin}")
        say("policy", str(self.folder / "policy.yaml"))

    def write_policy(self):
        key = Ed25519PrivateKey.generate()
        forms = serialization.Encoding, serialization.PrivateFormat, serialization.PublicFormat
        pem = key.private_bytes(forms[0].PEM, forms[1].PKCS8, serialization.NoEncryption())
        self.pem = self.folder / "ada.pem"
        self.pem.touch(0o600)
        self.pem.write_bytes(pem)
        public = pem_body(key.public_key().public_bytes(forms[0].PEM, forms[2].SubjectPublicKeyInfo))
        lines = (HERE / "policy.yaml").read_text().splitlines()
        lines = [f"  ada: {public}" if line.startswith("  ada: ") else line for line in lines]
        (self.folder / "policy.yaml").write_text("\n".join(lines) + "\n")

    def start_server(self):
        port = free_port()
        self.server = f"http://127.0.0.1:{port}"
        self.start("server", sys.executable, HERE / "server.py", port, self.seen_by_server)
        wait_for(f"the server, see {self.folder}/server.log", lambda: listens(port))

    def start_gateway(self):
        _, main, self.admin = self.daemon(settings("mcp-demo", self.folder, "{folder}/policy.yaml", MORE, server=self.server))
        self.gateway = f"http://{main}"

    def estoppel(self, *words):
        done = subprocess.run([BIN / "estoppel", "--json", *map(str, words)], capture_output=True, text=True)
        check(f"estoppel {' '.join(map(str, words))}: exit {done.returncode}, {done.stdout}{done.stderr}", done.returncode == 0)
        return json.loads(done.stdout)["data"]

    def server_calls(self, tool):
        calls = map(json.loads, self.seen_by_server.read_text().splitlines())
        return [call["arguments"] for call in calls if call["tool"] == tool]

    # The three acts.

    async def denied(self, client):
        title("1  a denied tool")
        listed = [tool.name for tool in (await client.list_tools()).tools]
        say("client", f"tools/list: {', '.join(listed)}")
        check("the denied tool is not listed, the others are", sorted(listed) == ["look_up_order", "refund"])
        say("client", 'tools/call run_shell {"command": "id"}')
        code, message = await error_of(client.call_tool("run_shell", {"command": "id"}))
        say("answer", f"JSON-RPC error {code}: {message}")
        check("the server saw no call of run_shell", not self.server_calls("run_shell"))
        say("server", "saw nothing of it")

    async def held(self, client):
        title("2  a call that waits for a person")
        say("client", 'tools/call refund {"order": "A-17", "amount": 900}')
        call = asyncio.create_task(client.call_tool("refund", {"order": "A-17", "amount": 900}))
        hold = (await asyncio.to_thread(wait_for, "the hold", self.open_hold))["id"]
        check("the server saw nothing of a call that waits", not call.done() and not self.server_calls("refund"))
        say("gateway", f"holds it: {hold}")
        say("server", "has seen nothing of it yet")
        words = [BIN / "estoppel", "hold", "approve", hold, "--key", self.pem, "--admin", self.admin]
        words += ["--comment", "checked by phone"]
        shown = " ".join(f"'{word}'" if " " in str(word) else str(word) for word in words)
        if BY_HAND:
            say("you", f"in another terminal, within ten minutes:\n\n{shown}\n")
        else:
            say("person", f"$ {shown}")
            done = await asyncio.to_thread(subprocess.run, words, capture_output=True, text=True)
            check(f"the approval: {done.stdout}{done.stderr}", done.returncode == 0)
            say("", done.stdout.strip())
        result = await outcome_of(call)
        say("answer", check("the refund", not result.is_error and result.content[0].text))
        check("the server saw the call once", self.server_calls("refund") == [{"order": "A-17", "amount": 900}])
        say("server", "saw it once")

    def open_hold(self):
        holds = self.estoppel("hold", "list", "--admin", self.admin)["holds"]
        return next((hold for hold in holds if hold["state"] == "open"), None)

    async def poisoned(self, client):
        title("3  a tool description that turns")
        before = await self.description(client)
        say("server", f"first said of look_up_order: {before}")
        result = await client.call_tool("look_up_order", {"order": "A-17"})
        say("client", f"tools/call look_up_order: {result.content[0].text}")
        async with Client(f"{self.server}/mcp") as direct:
            after = await self.description(direct)
        check("the server has changed what it says", after != before)
        say("server", f"says now, asked directly: {after}")
        say("client", "tools/list, through the gateway")
        code, message = await error_of(client.list_tools(cache_mode="bypass"))
        check("the new description does not reach the client", "ignore" not in message)
        say("answer", f"JSON-RPC error {code}: {message}")

    async def description(self, client):
        tools = (await client.list_tools(cache_mode="bypass")).tools
        return next(tool.description for tool in tools if tool.name == "look_up_order")

    # What they left.

    def evidence(self):
        runs = self.estoppel("run", "list", "--admin", self.admin)["runs"]
        run = next(run["id"] for run in runs if run["calls"])
        self.bundle = self.estoppel("seal", run, "--admin", self.admin)["path"]
        receipts = [entry for entry in self.estoppel("show", self.bundle)["entries"] if entry["kind"] == "call"]
        for name, is_it, finding, metric in LEFT:
            found = [receipt for receipt in receipts if is_it(receipt)]
            check(f"one receipt of {name}, there are {len(found)}", len(found) == 1)
            title(name)
            self.feed(found[0], finding)
            self.metric(*metric)
            self.receipt(found[0])

    def feed(self, receipt, finding):
        """The call's own event, or the finding in it."""

        def told():
            lines = (self.folder / "ocsf.ndjson").read_text().splitlines()
            events = [(number, json.loads(line)) for number, line in enumerate(lines, 1)]
            of_call = (event for _, event in events if event.get("http_request", {}).get("uid") == receipt["call"])
            uid = next((event["metadata"]["uid"] + finding for event in of_call), None)
            return next((found for found in events if found[1]["metadata"]["uid"] == uid), None)

        number, event = wait_for("its line in the feed", told)
        say("feed", json.dumps({name: event[name] for name in SHOWN if name in event}))
        say("", f"whole: sed -n {number}p {self.folder}/ocsf.ndjson")

    def metric(self, name, labels):
        text = urllib.request.urlopen(f"http://{self.admin}/metrics", timeout=10).read().decode()
        lines = (line for line in text.splitlines() if line.startswith(name + "{"))
        found = next((line for line in lines if all(label in line for label in labels)), None)
        say("metric", check(f"the metric {name} with {', '.join(labels)}", found))

    def receipt(self, of):
        receipt = self.estoppel("show", self.bundle, "--call", of["seq"])
        kept = {"seq": receipt["seq"], **receipt["verdict"], "rule": receipt["policy"].get("rule")}
        if "approval" in receipt:
            kept |= {"hold": receipt["hold"]["outcome"], "approved": receipt["approval"]["approved"]}
        say("receipt", json.dumps({name: value for name, value in kept.items() if value is not None}))
        say("", f"whole: {BIN / 'estoppel'} show {self.bundle} --call {of['seq']}")

    def verify(self):
        title("the evidence")
        trust = self.folder / "journal/trust.json"
        said = self.estoppel("verify", self.bundle, "--trust", trust)
        check(f"a verified bundle: {said}", said["ok"])
        say("bundle", self.bundle)
        say("verified", ", ".join(f"{what} {verdict}" for what, verdict in said["verdicts"].items()))
        say("again", f"{BIN / 'estoppel'} verify {self.bundle} --trust {trust}")


def has_reason(reason):
    return lambda receipt: receipt["verdict"].get("reason") == reason


# What, which receipt is of it, the suffix of its finding in the feed, its metric.
LEFT = (
    ("what 1 left: the denied tool", has_reason("TOOL_DENIED"), "", ("estoppel_outcomes_total", ['code="TOOL_DENIED"'])),
    ("what 2 left: the approved call", lambda receipt: "approval" in receipt, "", ("estoppel_holds_total", ['outcome="released"'])),
    ("what 3 left: the tool that turned", has_reason("TOOL_CHANGED"), "#tool_changed", ("estoppel_tools_changed_total", [])),
)


def pem_body(pem):
    return "".join(pem.decode().splitlines()[1:-1])


async def outcome_of(call):
    from mcp import MCPError

    try:
        return await asyncio.wait_for(call, CALL_SECONDS)
    except MCPError as error:
        raise Missing(f"an approval: {error}") from None


async def error_of(call):
    from mcp import MCPError

    try:
        await call
    except MCPError as error:
        return error.error.code, error.error.message
    raise Missing("a JSON-RPC error")


async def acts(demo):
    async with Client(f"{demo.gateway}/mcp", read_timeout_seconds=CALL_SECONDS) as client:
        await demo.denied(client)
        await demo.held(client)
        await demo.poisoned(client)


def play(demo):
    demo.begin()
    asyncio.run(acts(demo))
    demo.evidence()
    demo.verify()


if __name__ == "__main__":
    perform("mcp-demo", Demo, play)
