"""Calls at the same time, while the collector of audit events is down: each has its receipt, and each is told when it is back."""

import concurrent.futures
import http.server
import json
import threading

from scene import calls, check, post, shown
from stage import free_port, wait_for

WHAT = "an audit queue that is full drops events"
OTHERS = "docker/mcp-gateway at 2bd20fe (2026-07-23), pkg/gateway/policy_audit.go: 100 places, then `audit event dropped due to backpressure`"

CALLS = 300
POLICY = "version: 1\nname: refunds\ndefaults: { verdict: allow, on_not_evaluated: block }\n"
FEED = """[[feeds]]
name = "siem"
format = "ocsf"
to = {{ http = {{ url = "http://127.0.0.1:{port}/", shape = "ndjson" }} }}
"""


class Collector(http.server.BaseHTTPRequestHandler):
    told = set()

    def do_POST(self):
        lines = self.rfile.read(int(self.headers["content-length"])).splitlines()
        uids = [event.get("http_request", {}).get("uid") for event in map(json.loads, lines)]
        self.told.update(uid for uid in uids if uid)
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def show(scene):
    port = free_port()
    gateway = scene.gateway(POLICY, scene.bank(), more=FEED.format(port=port))
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda cents: post(gateway.url, {"cents": cents}, "load"), range(CALLS)))
    check("every call is answered", [status for status, *_ in answers] == [200] * CALLS)
    made = {headers["estoppel-call"] for _, headers, *_ in answers}
    check("nothing was told: the collector is down", not Collector.told)
    lag = gateway.metric("estoppel_feed_lag_entries")
    check(f"the feed is behind by {lag:.0f}", lag >= CALLS)
    receipts = {entry["call"] for entry in calls(scene, gateway.seal("load"))}
    check(f"a receipt for each of {len(made)} calls, there are {len(receipts)}", len(made) == CALLS and receipts == made)
    collector = http.server.ThreadingHTTPServer(("127.0.0.1", port), Collector)
    threading.Thread(target=collector.serve_forever, daemon=True).start()
    wait_for("each call told to the collector", lambda: Collector.told >= made)
    return "none dropped: the feed reads the journal", f"{CALLS} calls, {len(receipts)} receipts; told afterwards: {len(Collector.told & made)}"


if __name__ == "__main__":
    shown(WHAT, OTHERS, show)
