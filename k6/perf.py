"""Runs k6/calls.js through the scripted model and two gateways, and holds what it measured against the budgets.

`--summary FILE` judges a run that was recorded before. Exit code 5: a budget is not kept. Environment: RATE (calls a
second, 50), SCENARIO_SECONDS (of each scenario, 10).
"""

import argparse
import csv
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benches"))
from quantile import percentile  # noqa: E402

TRENDS = ("direct_plain", "open_plain", "plain", "direct_streamed", "streamed", "blocked", "mixed")
OVER = 5


def summarize(rows, receipts):
    """What is kept of a run: percentiles of each trend from k6's own samples, and counts."""
    samples, counts = {}, {}
    for row in rows:
        name, value = row["metric_name"], float(row["metric_value"])
        if name in TRENDS:
            samples.setdefault(name, []).append(value)
        elif name in ("failed_calls", "gateway_calls", "dropped_iterations"):
            counts[name] = counts.get(name, 0) + value
    trends = {
        name: {"calls": len(values)} | {f"p{p}_ms": percentile(values, p) for p in (50, 95, 99)}
        for name, values in samples.items()
    }
    return {"trends": trends, "counts": counts | {"receipts": receipts}}


def measured(summary):
    """The figure for each budget. A trend that is missing is an error, never a budget that is kept."""
    p95 = {name: summary["trends"][name]["p95_ms"] for name in TRENDS}
    counts = summary["counts"]
    return {
        "proxy_p95_ms": p95["plain"] - p95["direct_plain"],
        "stream_p95_ms": p95["streamed"] - p95["direct_streamed"],
        "enforcement_p95_ms": p95["plain"] - p95["open_plain"],
        "recorder_p95_ms": p95["blocked"],
        "mixed_p95_ms": p95["mixed"],
        "failed_calls": counts["failed_calls"],
        "dropped_calls": counts.get("dropped_iterations", 0),  # k6 has no such metric when there were none
        "unreceipted_calls": counts["gateway_calls"] - counts["receipts"],
    }


def judge(summary, budgets):
    """Rows of (budget, measured, limit, kept)."""
    figures = measured(summary)
    if figures.keys() != budgets.keys():
        raise SystemExit(f"budgets and measurements differ in {sorted(figures.keys() ^ budgets.keys())}")
    return [(name, value, budgets[name], value <= budgets[name]) for name, value in figures.items()]


def table(summary, rows):
    yield f"{'calls':<18} {'count':>7} {'p50 ms':>9} {'p95 ms':>9} {'p99 ms':>9}"
    for name, row in summary["trends"].items():
        yield f"{name:<18} {row['calls']:>7} {row['p50_ms']:>9.3f} {row['p95_ms']:>9.3f} {row['p99_ms']:>9.3f}"
    yield ""
    yield f"{'budget':<18} {'measured':>10} {'limit':>8}"
    for name, value, limit, kept in rows:
        yield f"{name:<18} {value:>10.3f} {limit:>8g}  {'ok' if kept else 'OVER'}"


def run():
    """Runs k6 once and gives the summary."""
    os.environ.setdefault("ESTOPPEL_BIN_DIR", str(ROOT / "target/release"))
    sys.path.insert(0, str(ROOT / "test/clients"))
    from conftest import BIN, Daemon, free_port

    k6 = shutil.which("k6", path=f"{ROOT}/.venv/bin") or shutil.which("k6")
    if not k6:
        raise SystemExit("k6 is not installed: make setup")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        model = f"127.0.0.1:{free_port()}"
        stub = subprocess.Popen([BIN / "estoppel", "stub", "--listen", model], stderr=subprocess.DEVNULL)
        daemons = []
        try:
            for name in ("baseline", "open"):
                (folder / name).mkdir()
                upstreams = {"model": f"http://{model}"}
                daemons.append(Daemon(folder / name, upstreams, policy=ROOT / f"policies/{name}.yaml"))
            enforcing, lenient = daemons
            samples = folder / "samples.csv"
            bases = {"DIRECT": f"http://{model}", "GATEWAY": f"{enforcing.base}/model", "OPEN": f"{lenient.base}/model"}
            command = [k6, "run", "--quiet", "--no-usage-report", "--no-summary", "--address", "", "--out", f"csv={samples}"]
            subprocess.run([*command, ROOT / "k6/calls.js"], check=True, env=os.environ | bases)
            bundle = enforcing.seal("k6")
            report = enforcing.cli("verify", bundle, "--trust", enforcing.folder / "journal/trust.json")["data"]
            with samples.open(newline="") as lines:
                return summarize(csv.DictReader(lines), report["counters"]["calls"])
        finally:
            for daemon in daemons:
                daemon.stop()
            stub.kill()
            stub.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--summary", type=pathlib.Path, help="judge this recorded run")
    parser.add_argument("--budgets", type=pathlib.Path, default=ROOT / "k6/budgets.yml")
    options = parser.parse_args()
    budgets = yaml.safe_load(options.budgets.read_text())
    if options.summary:
        summary = json.loads(options.summary.read_text())
    else:
        summary = run()
        kept = ROOT / "target/perf/summary.json"
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(summary, indent=1) + "\n")
    rows = judge(summary, budgets)
    print("\n".join(table(summary, rows)))
    sys.exit(0 if all(row[3] for row in rows) else OVER)


if __name__ == "__main__":
    main()
