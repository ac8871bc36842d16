"""Documents of feeds: the goldens of src/feeds, and those that a daemon writes of real calls."""

import importlib.util
import json
import pathlib
import urllib.error
import urllib.request

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDENS = {name: ROOT / f"src/feeds/fixtures/{name}.ndjson" for name in ("ocsf", "ecs")}


def load(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


clients = load("estoppel_clients", ROOT / "test/clients/conftest.py")

POLICY = """version: 1
name: feeds
rules:
  - { id: no-deletes, when: { tool: [delete_account] }, verdict: block, reason: TOOL_DENIED, severity: high, threat: ["owasp_agentic:2026/ASI02"] }
defaults: { verdict: allow, on_not_evaluated: allow, body_storage: hmac, disconnect: cancel }
"""


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def post(url, body, **headers):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json", **headers})
    try:
        return urllib.request.urlopen(request).status
    except urllib.error.HTTPError as refused:
        return refused.code


@pytest.fixture(scope="session")
def golden():
    return {name: read(path) for name, path in GOLDENS.items()}


@pytest.fixture(scope="session")
def live(tmp_path_factory):
    """Files that a daemon wrote, in both formats, and the daemon's last metrics page."""
    folder = tmp_path_factory.mktemp("feeds")
    (folder / "policy.yaml").write_text(POLICY)
    feeds = "".join(
        f'[[feeds]]\nname = "{name}"\nformat = "{name}"\nlinger_ms = 5\nto = {{ file = {{ path = "{folder}/{name}.ndjson" }} }}\n'
        for name in GOLDENS
    )
    port = clients.free_port()
    stub = clients.start_stub(port, folder / "stub.log")
    nobody = clients.free_port()
    upstreams = {"model": f"http://127.0.0.1:{port}", "nobody": f"http://127.0.0.1:{nobody}"}
    try:
        daemon = clients.Daemon(folder, upstreams, folder / "policy.yaml", feeds)
        chat = {"model": "m", "messages": [{"role": "user", "content": "Say PLANTED-SECRET"}]}
        call = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "delete_account", "arguments": {"who": "PLANTED-SECRET"}}}
        assert post(f"{daemon.base}/model/v1/chat/completions", chat, **{"estoppel-run": "feeds"}) == 200
        assert post(f"{daemon.base}/model/v1/messages", chat | {"max_tokens": 9}) == 200
        assert post(f"{daemon.base}/model/mcp", call) == 403
        assert post(f"{daemon.base}/nobody/files", {"a": 1}) == 502
        assert post(f"{daemon.base}/nowhere/PLANTED-SECRET", {"a": 1}) == 404
        page = urllib.request.urlopen(f"http://{daemon.admin}/metrics").read().decode()
        daemon.stop()
    finally:
        stub.kill()
        stub.wait()
    return {"metrics": page, **{name: read(folder / f"{name}.ndjson") for name in GOLDENS}}
