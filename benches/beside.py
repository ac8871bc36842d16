"""What shadow policies and a tapped detector add to a call, measured in one interleaved run of k6/beside.js.

Four gateways stand before the same scripted model: `without`, `again` (the same once more: what differs between these two is
noise), `shadow` (four shadow policies: three of 100 rules about names, one that looks into bodies, calls and hosts) and `tap` (an
external detector in shadow that is told of every request and answer). Every iteration makes the same call through each.

Exit code 5: the p99 of `shadow` or `tap` is more than a millisecond above the lower of the first two, or another number of calls was
blocked, or a shadow policy was not asked. Environment: ITERATIONS (10000), RATE (of iterations a second, 100), DURABILITY (of the
journals, `memory`: the disk is the same for all, and its noise is larger than what is measured).
"""

import csv
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benches"))
from quantile import percentile  # noqa: E402

GATEWAYS = ("without", "again", "shadow", "tap")
KINDS = ("plain", "streamed", "blocked")
LIMIT_MS = 1.0
OVER = 5
BASELINE = (ROOT / "policies/baseline.yaml").read_text()


def shadow_policies(folder):
    """Writes them, and gives what the configuration says of them."""
    rule = "- {{ id: r{0}, when: {{ tool: [tool-{0}, other-{0}*], model: family-{0}* }}, verdict: block, reason: X }}\n"
    head = "version: 1\nname: {}\ndefaults: {{ verdict: allow, on_not_evaluated: allow }}\nrules:\n"
    texts = [head.format(f"names-{n}") + "".join(rule.format(m) for m in range(100)) for n in range(3)]
    texts.append(
        head.format("content")
        + "- { id: egress, when: { tool: search, destination: evil.example }, verdict: block, reason: EGRESS_DENIED }\n"
        + "- { id: urgent, when: { body: [{ at: /metadata/tag, equals: urgent }] }, verdict: block, reason: X }\n"
        + "- { id: large, when: { arguments: [{ at: /amount, greater_than: 100 }] }, verdict: block, reason: X }\n"
    )
    for n, text in enumerate(texts):
        (folder / f"shadow-{n}.yaml").write_text(text)
    return "".join(f'[[shadow]]\npath = "{folder}/shadow-{n}.yaml"\n' for n in range(len(texts)))


def tapped(folder, detector):
    """A policy like the baseline, with a detector that is told of everything and not waited for."""
    policy = folder / "tapped.yaml"
    keys = f'url: "http://{detector}/", mode: shadow, surfaces: [request, answer], per_second: 100000, timeout_ms: 2000'
    policy.write_text(BASELINE.replace("\nrules:\n", f"\ndetectors: {{ dlp: {{ {keys} }} }}\n\nrules:\n", 1))
    return policy


def run(folder, iterations, rate):
    """One run of k6: samples by gateway and kind in ms, blocks and failures by gateway, receipts by gateway."""
    os.environ.setdefault("ESTOPPEL_BIN_DIR", str(ROOT / "target/release"))
    sys.path.insert(0, str(ROOT / "test/clients"))
    from conftest import BIN, Daemon, free_port

    k6 = shutil.which("k6", path=f"{ROOT}/.venv/bin") or shutil.which("k6")
    if not k6:
        raise SystemExit("k6 is not installed: make setup")
    model, detector = (f"127.0.0.1:{free_port()}" for _ in range(2))
    script = folder / "detector.json"
    reply = {"headers": [["content-type", "application/json"]], "body": {"text": '{"findings":[]}'}}
    script.write_text(json.dumps({"rules": [], "otherwise": reply}))
    stubs = [["--listen", model], ["--listen", detector, "--script", script]]
    stubs = [subprocess.Popen([BIN / "estoppel", "stub", *more], stderr=subprocess.DEVNULL) for more in stubs]
    os.environ["ESTOPPEL__JOURNAL__DURABILITY"] = os.environ.get("DURABILITY", "memory")
    daemons = {}
    try:
        for name in GATEWAYS:
            (folder / name).mkdir()
            policy = tapped(folder, detector) if name == "tap" else ROOT / "policies/baseline.yaml"
            extra = shadow_policies(folder) if name == "shadow" else ""
            daemons[name] = Daemon(folder / name, {"model": f"http://{model}"}, policy=policy, extra=extra)
        gateways = {name: f"{daemon.base}/model" for name, daemon in daemons.items()}
        env = os.environ | {"GATEWAYS": json.dumps(gateways), "ITERATIONS": str(iterations), "RATE": str(rate)}
        samples = folder / "samples.csv"
        command = [k6, "run", "--quiet", "--no-usage-report", "--no-summary", "--address", "", "--out", f"csv={samples}"]
        subprocess.run([*command, ROOT / "k6/beside.js"], check=True, env=env)
        receipts = {name: daemon.cli("show", daemon.seal("beside"))["data"]["entries"] for name, daemon in daemons.items()}
        with samples.open(newline="") as lines:
            return collected(csv.DictReader(lines)) | {"receipts": counted(receipts)}
    finally:
        for daemon in daemons.values():
            daemon.stop()
        for stub in stubs:
            stub.kill()
            stub.wait()


def collected(rows):
    """Samples and counts from k6's own rows."""
    times = {name: {kind: [] for kind in KINDS} for name in GATEWAYS}
    blocks, failed, dropped = dict.fromkeys(GATEWAYS, 0), dict.fromkeys(GATEWAYS, 0), 0
    for row in rows:
        name, _, what = row["metric_name"].partition("_")
        value = float(row["metric_value"])
        if row["metric_name"] == "dropped_iterations":
            dropped += value
        elif name in times and what in KINDS:
            times[name][what].append(value)
        elif name in times and what == "blocks":
            blocks[name] += value
        elif name in times and what == "failed":
            failed[name] += value
    return {"times": times, "blocks": blocks, "failed": failed, "dropped": dropped}


def counted(receipts):
    """Of each gateway: receipts, blocks, verdicts of shadow policies and how many were skipped, bodies told to the detector."""
    out = {}
    for name, entries in receipts.items():
        calls = [entry for entry in entries if entry["kind"] == "call"]
        shadows = [shadow for call in calls for shadow in call.get("shadow", [])]
        taps = [detector["outcome"] for call in calls for detector in call.get("detectors", [])]
        out[name] = {
            "calls": len(calls),
            "blocks": sum(call["verdict"]["action"] == "block" for call in calls),
            "judged": sum(shadow["state"] == "judged" for shadow in shadows),
            "skipped": sum(shadow["state"] == "skipped" for shadow in shadows),
            "tapped": taps.count("tapped"),
            "untapped": len(taps) - taps.count("tapped"),
        }
    return out


def judged(data):
    """What is wrong with a run."""
    wrong, receipts = [], data["receipts"]
    for name in GATEWAYS:
        for what, blocks in (("answers", data["blocks"]), ("receipts", {n: receipts[n]["blocks"] for n in GATEWAYS})):
            if blocks[name] != blocks["without"] or not blocks[name]:
                wrong.append(f"{name}: {blocks[name]:.0f} blocked {what}, without {blocks['without']:.0f}")
        if data["failed"][name]:
            wrong.append(f"{name}: {data['failed'][name]:.0f} answers that were not what was asked for")
    shadow = receipts["shadow"]
    if shadow["skipped"] or shadow["judged"] != 4 * shadow["calls"]:
        wrong.append(f"shadow: {shadow['judged']} verdicts and {shadow['skipped']} skipped of {shadow['calls']} calls")
    for name in ("shadow", "tap"):
        # The lower of the two that have nothing beside: noise in one of them hides nothing.
        delta = percentile(every(data, name), 99) - min(percentile(every(data, n), 99) for n in ("without", "again"))
        if delta > LIMIT_MS:
            wrong.append(f"{name}: p99 is {delta:.3f} ms above the lower of without and again")
    return wrong


def every(data, name):
    return [value for kind in KINDS for value in data["times"][name][kind]]


def table(data):
    """Milliseconds, and in brackets what they are above `without`."""
    yield "| calls | gateway | n | p50 ms | p99 ms |\n|---|---|---|---|---|"
    for kind in ("all", *KINDS):
        values = {name: every(data, name) if kind == "all" else data["times"][name][kind] for name in GATEWAYS}
        for name in GATEWAYS:
            cells = []
            for p in (50, 99):
                value, base = (percentile(values[n], p) for n in (name, "without"))
                cells.append(f"{value:.3f}" if name == "without" else f"{value:.3f} ({value - base:+.3f})")
            yield f"| {kind} | {name} | {len(values[name]):,} | {cells[0]} | {cells[1]} |"
    yield ""
    for name in GATEWAYS:
        row = data["receipts"][name]
        yield f"{name}: " + ", ".join(f"{row[key]:,} {key}" for key in row)
    yield f"dropped iterations: {data['dropped']:.0f}"


def main():
    iterations, rate = (int(os.environ.get(key, default)) for key, default in (("ITERATIONS", 10000), ("RATE", 100)))
    with tempfile.TemporaryDirectory() as folder:
        data = run(pathlib.Path(folder), iterations, rate)
    kept = ROOT / "target/perf" / f"beside-{time.strftime('%Y%m%d-%H%M%S')}.json"
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(data))
    print("\n".join(table(data)))
    wrong = judged(data)
    print("\n".join(wrong) or "kept: same blocks, every shadow policy asked, p99 within a millisecond")
    sys.exit(OVER if wrong else 0)


if __name__ == "__main__":
    main()
