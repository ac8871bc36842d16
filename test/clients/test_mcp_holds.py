"""A held tool call of the official SDK's client: it comes again by itself, or its caller calls again; people let it pass in between."""

import asyncio
import base64
import subprocess
import sys
import threading

import httpx2
import pytest
from conftest import Daemon, free_port, wait_for
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from test_mcp import error_of
from test_mcp_eras import PROGRAM, listens

POLICY = """version: 1
name: holds
defaults: {{ verdict: allow, on_not_evaluated: allow, body_storage: hmac }}
approvers: {{ ada: {spki} }}
rules:
  - {{ id: adding, when: {{ operation: mcp.tools/call, tool: add }}, verdict: hold, hold: {{ approvers: [ada] }} }}
"""


@pytest.fixture
def world(tmp_path):
    key = tmp_path / "ada.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", key], check=True)
    key.chmod(0o600)
    der = subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-outform", "DER"], check=True, capture_output=True).stdout
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY.format(spki=base64.b64encode(der).decode()))
    program, port = tmp_path / "server.py", free_port()
    program.write_text(PROGRAM)
    log = open(tmp_path / "server.log", "wb")
    server = subprocess.Popen([sys.executable, program, str(port)], stdout=log, stderr=log)
    wait_for("the server", lambda: listens(port))
    daemon = Daemon(tmp_path, {"tools": f"http://127.0.0.1:{port}"}, policy)
    yield daemon, key
    daemon.stop()
    server.kill()
    server.wait()


def waiting(daemon):
    return [hold["id"] for hold in daemon.cli("hold", "list", "--admin", daemon.admin)["data"]["holds"] if hold["state"] == "open"]


def approve(daemon, key):
    hold = wait_for("a held call", lambda: waiting(daemon))[0]
    daemon.cli("hold", "approve", hold, "--key", key, "--admin", daemon.admin)


async def with_client(daemon, run, mode, use):
    async with httpx2.AsyncClient(headers={"estoppel-run": run}, timeout=50) as http:
        async with Client(streamable_http_client(f"{daemon.base}/tools/mcp", http_client=http), mode=mode) as client:
            return await use(client)


async def add(client):
    return (await client.call_tool("add", {"a": 2, "b": 3})).structured_content


def released(daemon, run):
    """The one receipt of the run whose call was let pass."""
    [receipt] = [receipt for receipt in daemon.receipts(run) if "approval" in receipt]
    return receipt


def test_a_modern_client_comes_again_by_itself_and_its_caller_sees_nothing_but_the_result(world):
    daemon, key = world
    person = threading.Thread(target=approve, args=world)
    person.start()
    assert asyncio.run(with_client(daemon, "modern", "auto", add)) == {"result": 5}
    person.join()
    assert released(daemon, "modern")["operation"] == "mcp.tools/call"


def test_the_caller_of_an_earlier_client_gets_an_error_and_calls_again_once_it_was_approved(world):
    daemon, key = world

    async def use(client):
        error = await error_of(add(client))
        assert "hold" in error, error
        await asyncio.to_thread(approve, daemon, key)
        return await add(client)

    assert asyncio.run(with_client(daemon, "legacy", "legacy", use)) == {"result": 5}
    assert released(daemon, "legacy")["approval"]["call_tag"].startswith("hmac-sha256:")
