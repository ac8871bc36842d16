"""What the length of a history adds to a promotion: `estoppel promote --explain` of the newest commit of repositories of COMMITS
(200,20000) commits, RUNS (5) times in turning order. Times are told, and judge nothing. ESTOPPEL_BIN_DIR (target/release), TMPDIR.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
PROGRAM = pathlib.Path(os.environ.get("ESTOPPEL_BIN_DIR", ROOT / "target/release")).resolve() / "estoppel"
MESSAGE = "change {n}\n\nA body of some lines and words, as people write them, so that a commit\nhas the size that commits have.\n"


def stream(count):
    """A history for `git fast-import`: each commit changes one of 2,000 files in 40 folders."""
    for n in range(count):
        who, text = f"Ada <ada@example.invalid> {1700000000 + 60 * n} +0000", MESSAGE.format(n=n)
        yield f"commit refs/heads/main\nmark :{n + 1}\nauthor {who}\ncommitter {who}\ndata {len(text)}\n{text}\n"
        line = f"line {n}\n"
        yield f"{f'from :{n}{chr(10)}' if n else ''}M 100644 inline d{n % 40}/f{n % 2000}\ndata {len(line)}\n{line}\n"
    yield "done\n"


class Repository:
    """One with a ledger, a sealed generation and a candidate."""

    def __init__(self, folder, count):
        self.folder, self.key = folder / f"of-{count}", folder / f"{count}.pem"
        self.folder.mkdir()
        self.run("git", "init", "--quiet", "--initial-branch=main")
        self.run("git", "fast-import", "--quiet", "--done", given="".join(stream(count)))
        self.run("git", "reset", "--quiet", "--hard", "main")
        self.run("openssl", "genpkey", "-algorithm", "ed25519", "-out", self.key)
        self.key.chmod(0o600)
        generation = {
            "generation": 1,
            "version": "1.0.0",
            "description": "measured",
            "author": {"name": "Ada"},
            "changes": [{"id": "A-1", "type": "add", "title": "measured"}],
            "steps": [{"id": "unit", "kind": "unit", "run": ["true"], "proves": "all"}],
        }
        file = self.folder / ".estoppel/generations/v1.0.0.yaml"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(generation))
        signed = ["--repo", self.folder, "--key", self.key]
        for words in (["ledger", "init", "--name", "Ada"], ["generation", "seal", "1.0.0"]):
            self.run(PROGRAM, *words, *signed)
        self.run(PROGRAM, "evolution", "start", "1.0.0", "--all", *signed)

    def run(self, *words, given=None):
        done = subprocess.run([str(word) for word in words], cwd=self.folder, input=given, text=True, capture_output=True)
        if done.returncode:
            sys.exit(f"{words}: {done.stdout}{done.stderr}")

    def explained(self):
        began = time.monotonic()
        self.run(PROGRAM, "promote", "1.0.0", "--explain", "--repo", self.folder, "--key", self.key)
        return time.monotonic() - began


def main():
    counts = [int(count) for count in os.environ.get("COMMITS", "200,20000").split(",")]
    with tempfile.TemporaryDirectory() as folder:
        repositories = {count: Repository(pathlib.Path(folder), count) for count in counts}
        times = {count: [] for count in counts}
        for _ in range(int(os.environ.get("RUNS", "5"))):
            for count, repository in repositories.items():
                times[count].append(repository.explained())
    print("| commits | median s | least | most |\n|---|---|---|---|")
    for count, each in times.items():
        print(f"| {count:,} | {statistics.median(each):.2f} | {min(each):.2f} | {max(each):.2f} |")


if __name__ == "__main__":
    main()
