"""TLS, sockets, and the settings that the documentation shows."""

import gzip
import json
import os
import re
import socket
import ssl
import subprocess
import threading
import urllib.request

import pytest
from conftest import POLICY, ROOT, Recorder, clients, post


def make_certificate(folder, name):
    """A certificate of 127.0.0.1 that signs itself, by openssl."""
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        + ["-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"]
        + ["-keyout", key, "-out", cert],
        check=True,
        capture_output=True,
    )
    return cert, key


def denied(number):
    return {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": {"name": "delete_account", "arguments": {}}}


class SyslogReceiver:
    """Reads messages by their length (RFC 6587 section 3.4.1)."""

    def __init__(self, listener, wrap=lambda connection: connection):
        self.messages = []
        self.listener, self.wrap = listener, wrap
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            connection, _ = self.listener.accept()
            threading.Thread(target=self.read, args=(connection,), daemon=True).start()

    def read(self, connection):
        stream = self.wrap(connection).makefile("rb")
        while True:
            length = b""
            while (byte := stream.read(1)) not in (b" ", b""):
                length += byte
            if not length:
                return
            message = stream.read(int(length)).decode()
            head, body = message.split(" - - ", 1)
            self.messages.append((head, json.loads(body)))


@pytest.fixture(scope="module")
def delivered(tmp_path_factory, model):
    folder = tmp_path_factory.mktemp("transport")
    (folder / "policy.yaml").write_text(POLICY)
    cert, key = make_certificate(folder, "collector")
    other, _ = make_certificate(folder, "other")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)

    trusted, untrusted = Recorder(), Recorder()
    for recorder in (trusted, untrusted):
        recorder.socket = context.wrap_socket(recorder.socket, server_side=True)
        recorder.handle_error = lambda *_: None
    tls = socket.create_server(("127.0.0.1", 0))
    over_tls = SyslogReceiver(tls, lambda connection: context.wrap_socket(connection, server_side=True))
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(str(folder / "log.sock"))
    unix.listen()
    over_unix = SyslogReceiver(unix)
    token = folder / "token"
    token.write_text("t0ken")
    os.chmod(token, 0o600)

    def feed(name, to):
        return f'[[feeds]]\nname = "{name}"\nformat = "ecs"\nlinger_ms = 5\nretry_max_ms = 500\nto = {{ {to} }}\n'

    def https(recorder, ca):
        url = f"https://127.0.0.1:{recorder.server_port}/in"
        return f'http = {{ url = "{url}", shape = "ndjson", ca = "{ca}", token_file = "{token}" }}'

    feeds = (
        feed("trusted", https(trusted, cert))
        + feed("untrusted", https(untrusted, other))
        + feed("tls", f'syslog = {{ address = "tls://127.0.0.1:{tls.getsockname()[1]}", ca = "{cert}" }}')
        + feed("unix", f'syslog = {{ address = "unix:{folder}/log.sock", facility = 1 }}')
    )
    daemon = clients.Daemon(folder, {"model": model}, folder / "policy.yaml", feeds)
    assert post(f"{daemon.base}/model/mcp", denied(7)) == 403
    seen = lambda documents: any(document["event"].get("code") == "TOOL_DENIED" for document in documents)
    sent = lambda recorder: [json.loads(line) for _, _, body in recorder.requests for line in body.splitlines()]
    clients.wait_for("the receipt over TLS", lambda: seen(sent(trusted)))
    for receiver in (over_tls, over_unix):
        clients.wait_for("the receipt by syslog", lambda receiver=receiver: seen(body for _, body in receiver.messages))
    clients.wait_for("a failure", lambda: daemon.metric("estoppel_feed_failures_total", feed="untrusted") > 0)
    page = urllib.request.urlopen(f"http://{daemon.admin}/metrics").read().decode()
    daemon.stop()
    log = (folder / "estoppeld.log").read_text()
    return {"trusted": trusted, "untrusted": untrusted, "tls": over_tls, "unix": over_unix, "metrics": page, "log": log}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    port = clients.free_port()
    process = clients.start_stub(port, tmp_path_factory.mktemp("stub") / "log")
    yield f"http://127.0.0.1:{port}"
    process.kill()
    process.wait()


def test_a_collector_gets_documents_and_token_over_tls(delivered):
    path, headers, _ = delivered["trusted"].requests[0]
    assert (path, headers["authorization"], headers["content-type"]) == ("/in", "Bearer t0ken", "application/x-ndjson")


@pytest.fixture(scope="module")
def packed(tmp_path_factory, model):
    """What collectors of each shape got with gzip, and one that refuses it with 400."""
    folder = tmp_path_factory.mktemp("packed")
    (folder / "policy.yaml").write_text(POLICY)
    taker, refuser = Recorder(), Recorder()
    refuser.status = 400
    shapes = {"splunk_hec": "ocsf", "datadog": "ocsf", "elastic_bulk": "ecs", "ndjson": "ecs", "otlp": "otlp_logs"}

    def feed(name, recorder, shape, compression="gzip"):
        return (
            f'[[feeds]]\nname = "{name}"\nformat = "{shapes[shape]}"\nlinger_ms = 5\nretry_max_ms = 500\n'
            f'to = {{ http = {{ url = "http://127.0.0.1:{recorder.server_port}/{name}", shape = "{shape}", compression = "{compression}" }} }}\n'
        )

    feeds = "".join(feed(shape, taker, shape) for shape in shapes)
    feeds += feed("plain", taker, "ndjson", "none") + feed("refuser", refuser, "ndjson")
    daemon = clients.Daemon(folder, {"model": model}, folder / "policy.yaml", feeds)
    try:
        for number in range(20):
            assert post(f"{daemon.base}/model/mcp", denied(number)) == 403
        clients.wait_for("failures", lambda: daemon.metric("estoppel_feed_failures_total", feed="refuser") > 2)
        refuser.status = 200
        for name in (*shapes, "plain", "refuser"):
            clients.wait_for(name, lambda name=name: daemon.metric("estoppel_feed_lag_entries", feed=name) == 0)
        page = urllib.request.urlopen(f"http://{daemon.admin}/metrics").read().decode()
    finally:
        daemon.stop()
    return taker.requests, refuser.requests, page, (folder / "estoppeld.log").read_text(), folder


def of(requests, name):
    return [(headers, body) for path, headers, body in requests if path == f"/{name}"]


def test_batches_are_packed_where_the_setting_says_so(packed):
    taken, _, page, _, _ = packed
    plain = b"".join(body for _, body in of(taken, "plain"))
    assert all("content-encoding" not in headers for headers, _ in of(taken, "plain"))
    for name in ("splunk_hec", "datadog", "elastic_bulk", "ndjson", "otlp"):
        found = of(taken, name)
        assert found and all(headers["content-encoding"] == "gzip" for headers, _ in found)
        whole = b"".join(gzip.decompress(body) for _, body in found)
        assert whole.count(b"mcp.tools/call") >= 20
        assert re.search(rf'estoppel_feed_refused_documents_total\{{feed="{name}"\}} 0\n', page)
    # Batches are cut by time, so that only the documents are alike.
    ids = lambda text: {json.loads(line)["event"]["id"] for line in text.splitlines()}
    assert ids(b"".join(gzip.decompress(body) for _, body in of(taken, "ndjson"))) == ids(plain)


def test_a_collector_that_takes_no_gzip_is_waited_for(packed):
    _, told, page, log, folder = packed
    assert re.search(r'estoppel_feed_refused_documents_total\{feed="refuser"\} 0\n', page)
    assert "has not taken a body in gzip yet" in log
    assert b"".join(gzip.decompress(body) for _, _, body in told).count(b"mcp.tools/call") >= 20
    assert not list(folder.rglob("refuser.refused.ndjson"))


def test_a_collector_that_is_not_trusted_gets_nothing(delivered):
    assert delivered["untrusted"].requests == []
    assert re.search(r'estoppel_feed_documents_total\{feed="untrusted"\} 0\n', delivered["metrics"])
    assert "t0ken" not in delivered["log"]


def test_syslog_messages_are_of_rfc_5424(delivered):
    for name, facility in (("tls", 13), ("unix", 1)):
        heads = [head for head, body in delivered[name].messages if body["event"].get("code") == "TOOL_DENIED"]
        priority = facility * 8 + 3  # a block of high severity is an error
        form = rf"<{priority}>1 \d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{6}}Z localhost estoppeld clients"
        assert all(re.fullmatch(form, head) for head in heads), heads


def test_the_settings_that_the_documentation_shows_are_taken(tmp_path):
    (tmp_path / "policy.yaml").write_text(POLICY)
    token = tmp_path / "hec.token"
    token.write_text("x")
    os.chmod(token, 0o600)
    shown = re.findall(r"```toml\n(.*?)```", (ROOT / "docs/siem.md").read_text(), re.DOTALL)
    assert len(shown) == 3 and "[[alerts]]" in shown[1] and "otlp_logs" in shown[2]
    feeds = "\n".join(shown).replace("/etc/estoppel/hec.token", str(token))
    base = (ROOT / "examples/openai.toml").read_text().replace("baseline.yaml", str(tmp_path / "policy.yaml"))
    (tmp_path / "estoppeld.toml").write_text(base.replace('dir = "keys"', 'dir = "keys"\ninit = true') + feeds)
    command = [clients.BIN / "estoppeld", "--check-config", "--config", tmp_path / "estoppeld.toml"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
