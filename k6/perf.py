"""Starts the scripted model and the gateway, runs k6/calls.js and holds the result against the budgets."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
os.environ.setdefault("ESTOPPEL_BIN_DIR", str(ROOT / "target/release"))
sys.path.insert(0, str(ROOT / "test/clients"))
from conftest import BIN, Daemon, free_port, wait_for  # noqa: E402


def budgets(path):
    rows = (line.split("#")[0].strip() for line in pathlib.Path(path).read_text().splitlines())
    return {key.strip(): float(value) for key, value in (row.split(":") for row in rows if row)}


def judge(metrics, limits):
    """Rows of (what, measured, budget, holds)."""
    p95 = {name: metrics[name]["values"]["p(95)"] for name in ("direct_plain", "plain", "direct_stream", "stream", "blocked")}
    measured = {
        "proxy_p95_ms": p95["plain"] - p95["direct_plain"],
        "stream_first_p95_ms": p95["stream"] - p95["direct_stream"],
        "blocked_p95_ms": p95["blocked"],
        "recorder_p95_ms": max(p95["plain"] - p95["direct_plain"], p95["blocked"]),
        "errors": metrics["errors"]["values"]["rate"],
    }
    missing = set(measured) ^ set(limits)
    assert not missing, f"k6/budgets.yml and this script disagree on {sorted(missing)}"
    return [(name, value, limits[name], value <= limits[name]) for name, value in measured.items()]


def main():
    k6 = shutil.which("k6", path=f"{ROOT}/.venv/bin") or shutil.which("k6")
    if not k6:
        sys.exit("k6 is not installed: make setup")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        port = free_port()
        stub = subprocess.Popen([BIN / "estoppel", "stub", "--listen", f"127.0.0.1:{port}"], stderr=subprocess.DEVNULL)
        daemon = Daemon(folder, {"model": f"http://127.0.0.1:{port}"})
        try:
            summary = folder / "summary.json"
            env = {**os.environ, "GATEWAY": f"{daemon.base}/model", "DIRECT": f"http://127.0.0.1:{port}", "SUMMARY": str(summary)}
            subprocess.run([k6, "run", "--quiet", "--no-usage-report", str(ROOT / "k6/calls.js")], check=True, env=env)
            rows = judge(json.loads(summary.read_text()), budgets(os.environ.get("BUDGETS", ROOT / "k6/budgets.yml")))
        finally:
            daemon.stop()
            stub.kill()
            stub.wait()
    print(f"{'budget':<22} {'measured':>10} {'limit':>10}")
    for name, value, limit, holds in rows:
        print(f"{name:<22} {value:>10.2f} {limit:>10.2f}  {'ok' if holds else 'OVER'}")
    sys.exit(0 if all(row[3] for row in rows) else 5)


if __name__ == "__main__":
    main()
