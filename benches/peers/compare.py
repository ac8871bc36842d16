#!/usr/bin/env python3
"""Puts each peer of peers.toml between the load client and the mock, on loopback, in turn. `./run` builds first.

  compare.py                         every peer, every case, 3 rounds
  compare.py --peers nginx,envoy --cases rest-50,max --rounds 5 --secs 2
  compare.py --table results/FILE.json     the tables again, from what was kept

A round runs a case against every peer one after the other (the order turns round by round) and
against the mock directly; a ratio is taken inside a round, and the median over rounds is printed.
The peer is pinned to core 0, mock and client to core 1.
"""
import argparse, json, os, signal, socket, subprocess, sys, tempfile, time, tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from quantile import percentile  # noqa: E402

BIN = HERE / "target/release"
MOCK = 9000
REALTIME = False

# name: (load arguments, group). llm = a chat POST any peer serves; any = a plain GET, byte proxies only.
CASES = {
    "rest-50": ("spec=json:1000 mode=open rate=50 conns=8", "llm"),
    "rest-2000": ("spec=json:1000 mode=open rate=2000 conns=64", "fast"),
    "rest-10000": ("spec=json:1000 mode=open rate=10000 conns=64", "fast"),
    "50k-200": ("spec=json:50000 mode=open rate=200 conns=32", "fast"),
    "max": ("spec=json:1000 mode=closed conns=32", "llm"),
    "max-64": ("spec=json:1000 mode=closed conns=64", "llm"),
    "max-50k": ("spec=json:50000 mode=closed conns=16", "llm"),
    "sse-gap": ("spec=sse:50:10000 mode=open rate=20 conns=64", "llm"),
    "sse-max": ("spec=sse:200:0 mode=closed conns=8", "llm"),
    "1m": ("spec=json:1000000 mode=closed conns=4", "llm"),
    "10m": ("spec=json:10000000 mode=closed conns=2", "llm"),
    "csv-1m": ("spec=/csv/1000000 mode=closed conns=4", "any"),
}


def pin(core):
    """All three sides get the same rank; --realtime keeps other work on the machine out of the tails."""
    rank = ["chrt", "-r", "1"] if REALTIME else []
    return [*rank, "taskset", "-c", str(core)]


def tree(pid):
    """The pid and its descendants."""
    out, todo = [], [pid]
    while todo:
        p = todo.pop()
        out.append(p)
        for t in Path(f"/proc/{p}/task").glob("*/children"):
            try:
                todo += [int(c) for c in t.read_text().split()]
            except OSError:
                pass
    return out


def usage(pid):
    """CPU seconds, PSS and RSS in MiB of a process tree."""
    cpu = pss = rss = 0
    for p in tree(pid):
        try:
            f = Path(f"/proc/{p}/stat").read_text().rsplit(")", 1)[1].split()
            cpu += int(f[11]) + int(f[12])
            roll = Path(f"/proc/{p}/smaps_rollup").read_text()
            kib = {l.split(":")[0]: int(l.split()[1]) for l in roll.splitlines()[1:]}
            pss += kib["Pss"]
            rss += kib["Rss"]
        except OSError:
            pass  # it ended meanwhile
    return cpu / os.sysconf("SC_CLK_TCK"), pss / 1024, rss / 1024


def fill(text, port, scratch, conf=""):
    for off in (100, 200, 300):
        text = text.replace(f"@PORT+{off}@", str(port + off))
    for key, value in {
        "BIN": BIN, "TOOLS": os.environ.get("GWBENCH_TOOLS", ""), "DIR": scratch, "PORT": port,
        "MOCK": f"127.0.0.1:{MOCK}", "MOCK_PORT": MOCK, "CONF": conf,
        "ESTOPPELD": os.environ.get("ESTOPPELD", HERE.parents[1] / "target/release/estoppeld"),
        "POLICY": HERE.parents[1] / "policies/open.yaml",
    }.items():
        text = text.replace(f"@{key}@", str(value))
    return text


class Peer:
    def __init__(self, spec, port):
        self.spec, self.name, self.port, self.proc = spec, spec["name"], port, None
        self.args = [f"target=127.0.0.1:{port}"]
        self.args += [f"header={fill(h, port, '')}" for h in spec.get("headers", [])]
        self.args += [f"{k}={spec[k]}" for k in ("path", "model") if k in spec]

    def start(self, root):
        scratch = root / str(self.port)
        scratch.mkdir()
        conf = ""
        if "conf" in self.spec:
            conf = scratch / self.spec["conf"]
            text = (HERE / "peers" / self.spec["conf"]).read_text()
            for key, value in self.spec.get("fill", {}).items():
                text = text.replace(f"@{key}@", value)
            conf.write_text(fill(text, self.port, scratch))
        cmd = [*pin(0), *fill(self.spec["start"], self.port, scratch, conf).split()]
        env = os.environ | {k: fill(v, self.port, scratch) for k, v in self.spec.get("env", {}).items()}
        log = open(scratch / "log", "wb")
        self.log = scratch / "log"
        self.proc = subprocess.Popen(cmd, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=env, cwd=scratch, start_new_session=True)
        end = time.time() + self.spec.get("wait", 20)
        why = "no answer"
        while time.time() < end and self.proc.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                got = load([*self.args, "spec=json:1000", "mode=closed", "conns=1", "secs=0.3", "warm=0"])
                if got["done"]:
                    break
                why = got["error"]
            except OSError:
                pass
            time.sleep(0.3)
        else:
            self.stop()
            tail = self.log.read_bytes()[-300:].decode(errors="replace").strip()
            raise RuntimeError(f"{why}: {tail}")
        time.sleep(0.5)
        _, self.idle, _ = usage(self.proc.pid)

    def stop(self):
        if self.proc and self.proc.poll() is None:
            os.killpg(self.proc.pid, signal.SIGTERM)
            try:
                self.proc.wait(5)
            except subprocess.TimeoutExpired:
                os.killpg(self.proc.pid, signal.SIGKILL)
                self.proc.wait()

    def serves(self, group):
        if self.spec.get("only") == "llm" and group == "any":
            return False
        return not (self.spec.get("slow") and group == "fast")


def begin(args):
    return subprocess.Popen([*pin(1), str(BIN / "load"), *args], stdout=subprocess.PIPE)


def finish(client):
    try:
        out, _ = client.communicate(timeout=90)
    except subprocess.TimeoutExpired:
        client.kill()
        client.communicate()
        raise
    if client.returncode:
        raise subprocess.CalledProcessError(client.returncode, client.args)
    return json.loads(out)


def load(args):
    return finish(begin(args))


WARM = 0.5


def measure(peer, case, secs):
    args = [*CASES[case][0].split(), f"secs={secs}", f"warm={WARM}"]
    if peer is None:
        return load([f"target=127.0.0.1:{MOCK}", *args])
    before, *_ = usage(peer.proc.pid)
    began = time.time()
    client = begin([*peer.args, *args])
    time.sleep((secs + WARM) * 0.8)
    _, pss, rss = usage(peer.proc.pid)  # while all connections are open
    out = finish(client)
    took = time.time() - began
    cpu, *_ = usage(peer.proc.pid)
    # The client's warm-up is in the CPU time and not in `done`: scale by the share that counted.
    work = out["done"] * (secs + WARM) / secs
    out |= {"cpu_s": cpu - before, "cpu_share": (cpu - before) / took, "pss": pss, "rss": rss}
    out["cpu_us"] = (cpu - before) * 1e6 / work if work else None
    return out


def med(values):
    values = [v for v in values if v is not None]
    return percentile(values, 50) if values else None


def show(v, digits=0):
    return "-" if v is None else f"{v:,.{digits}f}"


def minus(a, b):
    return None if a is None or b is None else a - b


def over(a, b):
    return a / b if a is not None and b else None


FLOOR = "hyper pass (floor)"


def summary(data):
    """One row a peer. A ratio or a difference is taken inside its round; the median over rounds is shown."""
    runs = data["runs"]

    def rounds(case, name, f, base):
        pairs = [(r[case].get(name), r[case].get(base)) for r in runs if case in r]
        return med([f(a, b) for a, b in pairs if a and b and a["done"] and b["done"]])

    own = lambda key: (lambda a, b: a.get(key))
    ratio = lambda key: (lambda a, b: over(a.get(key), b.get(key)))
    added = lambda kind, p: (lambda a, b: minus(a[kind][p], b[kind][p]))
    event = lambda a: a["cpu_us"] * a["done"] / a["events"] if a.get("cpu_us") and a["events"] else None
    columns = [
        ("1 KB calls/s", "max", own("rps"), "direct", 0),
        ("÷ floor", "max", ratio("rps"), FLOOR, 2),
        ("CPU µs/call", "max", own("cpu_us"), "direct", 1),
        ("÷ floor", "max", ratio("cpu_us"), FLOOR, 2),
        ("50 KB CPU µs/call", "max-50k", own("cpu_us"), "direct", 1),
        ("÷ floor", "max-50k", ratio("cpu_us"), FLOOR, 2),
        ("added p50 µs", "rest-2000", added("latency", "p50"), "direct", 0),
        ("added p95", "rest-2000", added("latency", "p95"), "direct", 0),
        ("added p99", "rest-2000", added("latency", "p99"), "direct", 0),
        ("first event added p50 µs", "sse-gap", added("first", "p50"), "direct", 0),
        ("CPU µs/event, burst", "sse-max", lambda a, b: event(a), "direct", 2),
        ("÷ floor", "sse-max", lambda a, b: over(event(a), event(b)), FLOOR, 2),
        ("PSS MiB, 64 connections", "max-64", own("pss"), "direct", 1),
        ("RSS MiB", "max-64", own("rss"), "direct", 1),
    ]
    columns = [column for column in columns if column[1] in data["cases"]]
    out = ["| peer | " + " | ".join(column[0] for column in columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name in ["direct", *data["peers"]]:
        cells = [show(rounds(case, name, f, base), digits) for _, case, f, base, digits in columns]
        out.append("| " + " | ".join([name, *cells]) + " |")
    out += [f"\nMissing: **{name}**: {why}" for name, why in data["absent"].items()]
    out.append(f"\n{len(runs)} interleaved rounds; floor: {FLOOR}; medians and percentiles are nearest-rank.")
    return "\n".join(out)


def tables(data):
    """Medians over rounds; a ratio or a difference against direct is taken inside its round."""
    runs, peers = data["runs"], data["peers"]
    names = ["direct", *peers]

    def cell(case, name, f):
        return med([f(r[case][name], r[case]["direct"]) for r in runs if name in r.get(case, {}) and r[case][name]["done"]])

    out = []
    for case, (args, _) in data["cases"].items():
        have = [n for n in names if any(n in r.get(case, {}) for r in runs)]
        out.append(f"\n### {case}: `{args}`\n")
        open_loop, sse = "mode=open" in args, "sse:" in args
        if open_loop and not sse:
            out.append("| peer | p50 us | p95 us | p99 us | added p50 | added p95 | added p99 | x direct p50 | CPU us/req | errors |\n|---|---|---|---|---|---|---|---|---|---|")
        elif open_loop:
            out.append("| peer | first event p50 us | p99 | added p50 | event delay p50 us | p95 | p99 | added p50 | CPU us/event | short | errors |\n|---|---|---|---|---|---|---|---|---|---|---|")
        else:
            out.append("| peer | req/s | x direct | MB/s | p50 us | p99 us | CPU us/req | us/event | core share | PSS MiB | errors |\n|---|---|---|---|---|---|---|---|---|---|---|")
        for n in have:
            g = lambda f, d=0: show(cell(case, n, f), d)
            q = lambda kind, p: (lambda a, b: a[kind][p])
            add = lambda kind, p: (lambda a, b: minus(a[kind][p], b[kind][p]))
            cpu = lambda a, b: a.get("cpu_us")
            ev = lambda a, b: a["cpu_us"] * a["done"] / a["events"] if a.get("cpu_us") and a["events"] else None
            err = lambda a, b: a["errors"]
            if open_loop and not sse:
                row = [g(q("latency", p)) for p in ("p50", "p95", "p99")] + [g(add("latency", p)) for p in ("p50", "p95", "p99")]
                row += [g(lambda a, b: over(a["latency"]["p50"], b["latency"]["p50"]), 2), g(cpu), g(err)]
            elif open_loop:
                row = [g(q("first", "p50")), g(q("first", "p99")), g(add("first", "p50"))]
                row += [g(q("delay", p)) for p in ("p50", "p95", "p99")] + [g(add("delay", "p50")), g(ev, 1), g(lambda a, b: a["short"]), g(err)]
            else:
                row = [g(lambda a, b: a["rps"]), g(lambda a, b: a["rps"] / b["rps"], 3), g(lambda a, b: a["mb_s"], 1), g(q("latency", "p50")), g(q("latency", "p99"))]
                row += [g(cpu), g(ev, 2), g(lambda a, b: a.get("cpu_share"), 2), g(lambda a, b: a.get("pss"), 1), g(err)]
            out.append("| " + " | ".join([n, *row]) + " |")
    out.append("\n### Memory (PSS of the process tree, MiB)\n\n| peer | idle | most seen |\n|---|---|---|")
    for n, idle in peers.items():
        most = max([r[c][n]["pss"] for r in runs for c in r if n in r[c]] + [idle])
        out.append(f"| {n} | {idle:.1f} | {most:.1f} |")
    return "\n".join(out)


def versus(data, mine):
    """`mine` against each other peer: req/s over req/s, or added p50 over added p50; then CPU over CPU."""
    def ratio(case, other):
        closed = "mode=closed" in data["cases"][case][0]
        kind = "delay" if "sse:" in data["cases"][case][0] else "latency"
        speed, cpu = [], []
        for r in data["runs"]:
            a, b, d = (r.get(case, {}).get(n) for n in (mine, other, "direct"))
            if not (a and b and d and a["done"] and b["done"]):
                continue
            if closed:
                speed.append(a["rps"] / b["rps"])
            elif b[kind]["p50"] > d[kind]["p50"]:
                speed.append((a[kind]["p50"] - d[kind]["p50"]) / (b[kind]["p50"] - d[kind]["p50"]))
            if a.get("cpu_us") and b.get("cpu_us"):
                cpu.append(a["cpu_us"] / b["cpu_us"])
        return f"{show(med(speed), 2)} / {show(med(cpu), 2)}"

    out = [f"\n### {mine} against each: closed loop req/s ratio, open loop (rest, 50k, sse-gap) added p50 ratio / CPU ratio\n"]
    out.append("| peer | " + " | ".join(data["cases"]) + " |\n|---" + "|---" * len(data["cases"]) + "|")
    for n in data["peers"]:
        if n != mine:
            out.append(f"| {n} | " + " | ".join(ratio(c, n) for c in data["cases"]) + " |")
    return "\n".join(out)


def main():
    global REALTIME
    ap = argparse.ArgumentParser()
    ap.add_argument("--peers", help="comma-separated parts of names")
    ap.add_argument("--cases", help="comma-separated: " + ",".join(CASES))
    ap.add_argument("--rounds", type=int, default=3)
    ap.add_argument("--secs", type=float, default=2)
    ap.add_argument("--realtime", action="store_true", help="SCHED_RR for all sides (root), on a machine that has other work")
    ap.add_argument("--table")
    ap.add_argument("--versus", help="a peer's name: also print its ratio to each other peer")
    opt = ap.parse_args()
    if opt.table:
        data = json.loads(Path(opt.table).read_text())
        return print(versus(data, opt.versus) if opt.versus else f"{summary(data)}\n{tables(data)}")
    REALTIME = opt.realtime
    specs = tomllib.loads((HERE / "peers.toml").read_text())["peer"]
    if opt.peers:
        specs = [s for s in specs if any(w in s["name"] for w in opt.peers.split(","))]
    cases = opt.cases.split(",") if opt.cases else list(CASES)
    root = Path(tempfile.mkdtemp(prefix="gwbench-"))
    mock = subprocess.Popen([*pin(1), str(BIN / "mock"), f"listen=127.0.0.1:{MOCK}"])
    up, absent, runs = [], {}, []
    try:
        time.sleep(0.3)
        for i, spec in enumerate(specs):
            peer = Peer(spec, 9101 + i)
            try:
                peer.start(root)
                up.append(peer)
                print(f"up: {peer.name} idle {peer.idle:.1f} MiB", file=sys.stderr)
            except (RuntimeError, OSError) as e:
                absent[peer.name] = str(e)
                print(f"absent: {peer.name}: {e}", file=sys.stderr)
        for n in range(opt.rounds):
            got = {}
            for case in cases:
                line = [None, *[p for p in up if p.serves(CASES[case][1])]]
                turn = n * len(line) // opt.rounds
                got[case] = {}
                for peer in line[turn:] + line[:turn]:
                    name = peer.name if peer else "direct"
                    try:
                        got[case][name] = measure(peer, case, opt.secs)
                    except (subprocess.SubprocessError, ValueError) as e:
                        print(f"failed: {name} {case}: {e}", file=sys.stderr)
            runs.append(got)
            print(f"round {n + 1} of {opt.rounds} done", file=sys.stderr)
    finally:
        for p in up:
            p.stop()
        mock.terminate()
        mock.wait()
    data = {"cases": {c: CASES[c] for c in cases}, "peers": {p.name: p.idle for p in up}, "absent": absent, "runs": runs}
    (HERE / "results").mkdir(exist_ok=True)
    path = HERE / f"results/{time.strftime('%Y%m%d-%H%M%S')}.json"
    path.write_text(json.dumps(data))
    print(f"kept {path}", file=sys.stderr)
    text = f"{summary(data)}\n{tables(data)}"
    path.with_suffix(".md").write_text(text + "\n")
    print(text)
    if opt.versus:
        print(versus(data, opt.versus))


if __name__ == "__main__":
    main()
