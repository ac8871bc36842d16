"""Every row, two at a time, and what came of each: `make let-through`. Exit code 1 where one does not hold."""

import concurrent.futures
import json
import subprocess
import sys
import textwrap

from scene import HERE

ROWS = [
    "false_pipeline", "failed_again", "other_proof", "renamed_tag",
    "altered_bundle", "lost_entries", "self_compare", "hollow_replay", "used_up_replay",
    "split_tool_call", "unread_call", "cut_stream", "audit_load", "csv_formula", "empty_report",
]


def run(name):
    done = subprocess.run([sys.executable, HERE / f"{name}.py", "--json"], capture_output=True, text=True)
    return name, json.loads(done.stdout) if done.returncode == 0 else done.stderr.strip()


def told(number, name, row):
    """The row as text, or what is missing."""
    whole = isinstance(row, dict)
    lines = {"others": row["others"], "here": row["here"], "evidence": row["evidence"]} if whole else {"missing": row}
    print(f"\n{number:>2}  {row['what'] if whole else name}")
    for label, text in (lines | {"again": f"python3 examples/let-through/{name}.py"}).items():
        print(textwrap.fill(text, 118, initial_indent=f"    {label:<9} ", subsequent_indent=" " * 14, break_long_words=False), flush=True)
    return whole


def main():
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        held = [told(number, *done) for number, done in enumerate(pool.map(run, ROWS), 1)]
    print(f"\n{sum(held)} of {len(ROWS)} hold")
    sys.exit(0 if all(held) else 1)


if __name__ == "__main__":
    main()
