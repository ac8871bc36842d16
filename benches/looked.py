"""What snapshots of a database add to a call, measured through two gateways in one interleaved run: `without`, and `looked`, whose
policy looks at a local Postgres of TABLES (100) tables before and after. The tool behind them reads nothing (`idle`) or inserts a row
(`write`). Times are told, and judge nothing. ITERATIONS (300), ESTOPPEL_BIN_DIR (target/release).
"""

import http.client
import http.server
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benches"))
from quantile import percentile  # noqa: E402

KINDS = ("idle", "write")
POLICY = "version: 1\nname: looked\ndefaults: {{ verdict: allow, on_not_evaluated: allow }}\nroutes:\n  tool: {{{}}}\n"
COLUMNS = "".join(f", c{n} text DEFAULT 'x'" if n < 3 else f", c{n} text" for n in range(12))


class Postgres:
    """A server on a socket in a folder, and one session."""

    def __init__(self, folder, tables):
        programs = max(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
        other = {"user": "postgres"} if os.geteuid() == 0 else {}
        self.folder = folder / "pg"
        self.folder.mkdir()
        if other:
            folder.chmod(0o755)
            subprocess.run(["chown", "postgres", self.folder], check=True)
        data = self.folder / "data"
        initdb = [programs / "initdb", "--auth=trust", "--no-sync", "--username=postgres", "--pgdata", data]
        subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, cwd="/", **other)
        command = [programs / "postgres", "-D", data, "-k", self.folder, "-c", "listen_addresses=", "-c", "fsync=off"]
        self.server = subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd="/", **other)
        psql = [programs / "psql", "-X", "-q", "-A", "-t", "-h", self.folder, "-U", "postgres"]
        while subprocess.run([*psql, "-c", "SELECT 1"], capture_output=True).returncode:
            time.sleep(0.1)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
        self.session = subprocess.Popen(psql, **pipes)
        for table in range(tables):
            self.run(f"CREATE TABLE t{table} (id bigint PRIMARY KEY{COLUMNS}); CREATE INDEX ON t{table} (c1)")
        self.run("CREATE TABLE written (at timestamptz); ANALYZE")

    def run(self, statement):
        self.session.stdin.write(statement + ";\n\\echo done\n")
        while self.session.stdout.readline() != "done\n":
            pass

    def stop(self):
        self.session.kill()
        self.session.wait()
        self.server.send_signal(signal.SIGQUIT)
        self.server.wait()


def tool(postgres):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # head and body are two writes: the second would wait 40 ms for the gateway's ACK

        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            if self.path.endswith("/write"):
                postgres.run("INSERT INTO written VALUES (now())")
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *words):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def daemons(folder, tool_port):
    from conftest import Daemon

    url = folder / "shop.url"
    url.write_text(f"postgresql:///postgres?host={folder}/pg&user=postgres")
    url.chmod(0o600)
    database = f'[[database]]\nname = "shop"\nurl_file = "{url}"\ngrace_ms = 2000\n'
    made = {}
    for name, says, extra in (("without", "", ""), ("looked", " snapshot: { source: shop, mode: enforce } ", database)):
        (folder / name).mkdir()
        policy = folder / name / "policy.yaml"
        policy.write_text(POLICY.format(says))
        made[name] = Daemon(folder / name, {"tool": f"http://127.0.0.1:{tool_port}"}, policy=policy, extra=extra)
    return made


def measure(gateways, iterations):
    """Milliseconds by gateway and kind."""
    times = {name: {kind: [] for kind in KINDS} for name in gateways}
    clients = {name: http.client.HTTPConnection(*daemon.base[7:].split(":")) for name, daemon in gateways.items()}
    for kind in KINDS * iterations:
        for name, client in clients.items():
            started = time.perf_counter()
            client.request("POST", f"/tool/{kind}", "{}", {"content-type": "application/json", "estoppel-run": "looked"})
            answer = client.getresponse()
            assert (answer.status, answer.read()) == (200, b"{}"), answer.status
            times[name][kind].append((time.perf_counter() - started) * 1000)
    return times


def main():
    os.environ.setdefault("ESTOPPEL_BIN_DIR", str(ROOT / "target/release"))
    sys.path.insert(0, str(ROOT / "test/clients"))
    iterations, tables = (int(os.environ.get(name, default)) for name, default in (("ITERATIONS", 300), ("TABLES", 100)))
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        postgres = Postgres(folder, tables)
        server = tool(postgres)
        gateways = daemons(folder, server.server_address[1])
        try:
            measure(gateways, 3)
            times = measure(gateways, iterations)
            receipts = gateways["looked"].receipts("looked")
        finally:
            for daemon in gateways.values():
                daemon.stop()
            server.shutdown()
            postgres.stop()
    both = [receipt for receipt in receipts if all("digest" in receipt["snapshot"][side] for side in ("pre", "post"))]
    assert len(both) == len(receipts) == 2 * (iterations + 3), (len(both), len(receipts))
    print(f"{iterations} calls of each kind, {tables} tables, {json.dumps(os.getloadavg())} load\n")
    print("| call | gateway | p50 ms | p95 ms |\n|---|---|---|---|")
    for kind in KINDS:
        for name in times:
            at = [percentile(times[name][kind], percent) for percent in (50, 95)]
            added = [at[i] - percentile(times["without"][kind], percent) for i, percent in enumerate((50, 95))]
            cells = [f"{value:.1f}" + (f" ({more:+.1f})" if name != "without" else "") for value, more in zip(at, added)]
            print(f"| {kind} | {name} | {' | '.join(cells)} |")


main()
