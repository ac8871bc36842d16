#!/usr/bin/env python3
"""Counts what one call costs estoppeld in instructions, allocations and copies, with valgrind's callgrind.

Counts do not depend on what else the machine does. valgrind has no SHA extensions, so SHA-256 is counted in its portable
form: compare a count with another count, never with a time. Needs valgrind and binutils, and benches/peers built (`./run`).
"""
import argparse, collections, os, re, signal, subprocess, sys, tempfile, time
from pathlib import Path

import compare

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "target/count"
# Named functions whose calls are counted; the rest is only in the sum.
COUNTED = {
    "allocations": r"^_rjem_(malloc|calloc|mallocx)$",
    "copies": r"^__mem(cpy|move)_",
    "SHA-256 compressions": r"sha256::compress256$",
    "clock readings": r"Timespec>::now$|clock_gettime$",
    "Ed25519 signatures": r"edwards25519_scalarmulbase",
}


def build():
    # rustix reads the vDSO in a way that valgrind does not survive. Symbols are needed, whole-program optimization is not.
    env = os.environ | {
        "RUSTFLAGS": "--cfg rustix_use_libc", "CARGO_TARGET_DIR": str(BUILD), "CARGO_PROFILE_RELEASE_STRIP": "none",
        "CARGO_PROFILE_RELEASE_LTO": "off", "CARGO_PROFILE_RELEASE_CODEGEN_UNITS": "16",
    }
    subprocess.run(["cargo", "build", "--release", "--locked", "--bin", "estoppeld"], check=True, env=env, cwd=ROOT)
    return BUILD / "release/estoppeld"


def read(path):
    """Instructions in all, and calls of each function by name, from a callgrind file with compressed names."""
    names, calls, total, callee = {}, collections.Counter(), 0, None
    for line in path.read_text(errors="replace").splitlines():
        if match := re.match(r"c?fn=\((\d+)\)(?: (.*))?$", line):
            if match[2]:
                names[match[1]] = match[2]
            callee = match[1] if line.startswith("cfn=") else callee
        elif line.startswith("calls="):
            calls[callee] += int(line[6:].split()[0])
        elif line.startswith(("summary:", "totals:")):
            total = max(total, int(line.split(":")[1].split()[0]))
    by_name = collections.Counter()
    for key, count in calls.items():
        by_name[names[key].split("'")[0]] += count
    return total, by_name


def measure(binary, durability, sign, spec, secs):
    with tempfile.TemporaryDirectory() as folder:
        scratch, port = Path(folder), 9101
        conf = scratch / "estoppeld.toml"
        text = (compare.HERE / "peers/estoppeld.toml").read_text()
        text = text.replace("@DURABILITY@", durability).replace("@SIGN@", sign)
        conf.write_text(compare.fill(text, port, scratch))
        out = scratch / "callgrind.out"
        mock = subprocess.Popen([compare.BIN / "mock", f"listen=127.0.0.1:{compare.MOCK}"])
        tool = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={out}"]
        log = open(scratch / "log", "wb")
        daemon = subprocess.Popen([*tool, binary, "--config", conf], stdout=log, stderr=log)
        try:
            args = [f"target=127.0.0.1:{port}", f"spec={spec}", "mode=closed", "conns=4", "warm=0"]
            until = time.time() + 60
            while not compare.load([*args, "secs=1"])["done"]:
                if daemon.poll() is not None or time.time() > until:
                    sys.exit((scratch / "log").read_text(errors="replace"))
            control = lambda word: subprocess.run(["callgrind_control", "-i", word, str(daemon.pid)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            control("on")
            done = compare.load([*args, f"secs={secs}"])["done"]
            control("off")
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(60)
        finally:
            for process in (daemon, mock):
                process.kill()
                process.wait()
            log.close()
        total, calls = read(out)
    counts = {what: sum(n for name, n in calls.items() if re.search(how, name)) for what, how in COUNTED.items()}
    return done, total, counts


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("--spec", default="json:1000", help="what is asked of the mock, as in load")
    ap.add_argument("--secs", type=float, default=8)
    ap.add_argument("--bin", type=Path, help="an estoppeld that was built for this before")
    opt = ap.parse_args()
    binary = opt.bin or build()
    print("| mode | calls | instructions | " + " | ".join(COUNTED) + " |\n" + "|---" * (3 + len(COUNTED)) + "|")
    for durability, sign in (("group", "each"), ("group", "checkpoint"), ("memory", "checkpoint")):
        done, total, counts = measure(binary, durability, sign, opt.spec, opt.secs)
        cells = [f"{count / done:,.1f}" for count in counts.values()]
        print(f"| {durability}, {sign} | {done:,} | {total / done:,.0f} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
