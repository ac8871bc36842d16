"""Documents of feeds: the goldens of src/feeds, and those that a daemon writes of real calls."""

import gzip
import importlib.util
import http.server
import json
import pathlib
import threading
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


TRACE = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", "tracestate": "congo=t61rcWkgMzE"}


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def post(url, body, **headers):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json", **headers})
    try:
        return urllib.request.urlopen(request).status
    except urllib.error.HTTPError as refused:
        return refused.code


class Recorder(http.server.ThreadingHTTPServer):
    """A collector that takes everything, or answers with `status`: path, headers and body of each request."""

    daemon_threads = True
    status = 200

    def __init__(self):
        self.requests = []
        super().__init__(("127.0.0.1", 0), self.Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def answer_to(self, path, headers, body):
        """What each shape takes for success."""
        if "elastic" not in path:
            return b'{"code":0}'
        text = gzip.decompress(body) if headers["content-encoding"] == "gzip" else body
        items = [{"create": {"status": 201}} for _ in text.splitlines()[::2]]
        return json.dumps({"items": items}).encode()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            self.server.requests.append((self.path, dict(self.headers), body))
            answer = self.server.answer_to(self.path, self.headers, body)
            self.send_response(self.server.status)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass


@pytest.fixture(scope="session")
def golden():
    return {name: read(path) for name, path in GOLDENS.items()}


@pytest.fixture(scope="session")
def live(tmp_path_factory):
    """Files that a daemon wrote, in both formats, what it sent by OTLP in both encodings, and its last metrics page."""
    folder = tmp_path_factory.mktemp("feeds")
    (folder / "policy.yaml").write_text(POLICY)
    feeds = "".join(
        f'[[feeds]]\nname = "{name}"\nformat = "{name}"\nlinger_ms = 5\nto = {{ file = {{ path = "{folder}/{name}.ndjson" }} }}\n'
        for name in GOLDENS
    )
    recorder = Recorder()
    feeds += "".join(
        f'[[feeds]]\nname = "{name}{encoding}"\nformat = "otlp_{name}"\nlinger_ms = 5\n'
        f'to = {{ http = {{ url = "http://127.0.0.1:{recorder.server_port}/v1/{name}", shape = "otlp"{more} }} }}\n'
        for name in ("traces", "metrics", "logs")
        for encoding, more in (("", ""), ("-json", ', encoding = "json"'))
    )
    feeds += '[[alerts]]\nname = "pass-rate"\nshare = "passed"\nbelow = 0.8\ncalls_min = 3\nseverity = "critical"\n'
    away = folder / "shop.url"
    away.touch(0o600)
    away.write_text("postgresql:///shop?host=/nonexistent/estoppel&user=ada")
    written = 'written = [{ table = "public.orders", key = "call_id" }]\nwatch_rows = true'
    feeds += f'[[database]]\nname = "shop"\nurl_file = "{away}"\n{written}\n'
    port = clients.free_port()
    stub = clients.start_stub(port, folder / "stub.log")
    nobody = clients.free_port()
    upstreams = {"model": f"http://127.0.0.1:{port}", "nobody": f"http://127.0.0.1:{nobody}"}
    try:
        daemon = clients.Daemon(folder, upstreams, folder / "policy.yaml", feeds)
        chat = {"model": "m", "messages": [{"role": "user", "content": "Say PLANTED-SECRET"}]}
        call = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "delete_account", "arguments": {"who": "PLANTED-SECRET"}}}
        assert post(f"{daemon.base}/model/v1/chat/completions", chat, **{"estoppel-run": "feeds", **TRACE}) == 200
        assert post(f"{daemon.base}/model/v1/messages", chat | {"max_tokens": 9}) == 200
        assert post(f"{daemon.base}/model/mcp", call) == 403
        assert post(f"{daemon.base}/nobody/files", {"a": 1}) == 502
        assert post(f"{daemon.base}/nowhere/PLANTED-SECRET", {"a": 1}) == 404
        page = urllib.request.urlopen(f"http://{daemon.admin}/metrics").read().decode()
        daemon.stop()
    finally:
        stub.kill()
        stub.wait()
    recorder.shutdown()
    return {"metrics": page, "otlp": recorder.requests, **{name: read(folder / f"{name}.ndjson") for name in GOLDENS}}
