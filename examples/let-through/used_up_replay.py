"""A replay that has no answer left says so, and asks no upstream."""

import http.server
import json
import threading

from scene import BIN, check, post, shown
from stage import JsonHandler, wait_for

WHAT = "a replay whose recording is used up goes to the real upstream"
OTHERS = "mitmproxy/mitmproxy issue 8363 (2026-08-10, open as of 2026-09)"

POLICY = """version: 1
name: refunds
defaults: { verdict: allow, on_not_evaluated: block, body_storage: { full: { reason: replay } } }
"""


class Bank(http.server.ThreadingHTTPServer):
    """An upstream that counts who connects to it."""

    connections = 0

    def process_request(self, request, address):
        self.connections += 1
        super().process_request(request, address)


class Answer(JsonHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.answer(b'{"state":"paid"}')


def show(scene):
    bank = Bank(("127.0.0.1", 0), Answer)
    threading.Thread(target=bank.serve_forever, daemon=True).start()
    gateway = scene.gateway(POLICY, f"http://127.0.0.1:{bank.server_port}")
    refund = {"cents": 100}
    recorded = post(gateway.url, refund, "paid")
    check(f"a recorded refund: {recorded}", recorded[0] == 200)
    bundle, out = gateway.seal("paid"), scene.folder / "certificate.json"
    before = bank.connections
    key, _ = scene.key("certifier")
    words = ["replay", "serve", bundle, "--trust", gateway.trust, "--keys", gateway.keys, "--key", key, "--out", out]
    replay = scene.start("replay", BIN / "estoppel", "--json", *words)
    log = scene.folder / "replay.log"
    wait_for(f"the replay, see {log}", lambda: "\n" in log.read_text())
    url = json.loads(log.read_text().splitlines()[0])["data"]["listening"]
    check("the recorded answer", post(url, refund)[2] == recorded[2])
    status, _, body, _ = post(url, refund)
    check(f"a second one was not recorded: {status} {body}", status == 599 and b"MISS" in body)
    replay.terminate()
    check("a replay that failed: exit 5", replay.wait(30) == 5)
    certificate = json.loads(log.read_text().splitlines()[-1])["data"]["certificate"]
    check(f"failed: {certificate}", certificate["status"] == "failed" and certificate["reasons"] == ["MISS"])
    went = bank.connections - before
    check(f"nobody connected to the upstream, {went} did", went == 0 and certificate["upstream_connections"] == 0)
    return "status 599, 0 connections to the upstream", f"certificate {certificate['status']}: MISS, upstream_connections 0"


if __name__ == "__main__":
    shown(WHAT, OTHERS, show)
