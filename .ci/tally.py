"""Counts the tests that a stage's log reports, prints the stage's line, and adds a row to the file $CI_TALLY.

Knows the closing lines of nextest, cargo test, unittest, pytest, node's test runner, and the plain
`N passed, N failed, N skipped`. A stage that failed without a failed test counts as one failure, so that a sum of
zero failures always means that every stage was green.
"""

import argparse
import os
import re
import sys

# A run of everything in which one of these passed no test has left out a language.
NEEDED = ("rust", "verifier-python", "verifier-javascript", "clients-python")

ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
NEXTEST = re.compile(r"^\s*Summary \[.*?\] .*tests? run: (?P<rest>.*)$")
CARGO = re.compile(r"^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored;")
UNITTEST = re.compile(r"^Ran (\d+) tests? in [\d.]+s$")
UNITTEST_END = re.compile(r"^(?:OK|FAILED|NO TESTS RAN)(?: \((?P<rest>.*)\))?$")
PYTEST = re.compile(r"^=*\s*(?P<rest>(?:\d+ [a-z]+(?:, )?)+) in [\d.]+s(?: \([\d:]+\))?\s*=*$")
NODE = re.compile(r"^(?:#|ℹ) (pass|fail|cancelled|skipped|todo) (\d+)$")
PLAIN = re.compile(r"^(?:\w+: )?(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$")


def words(text):
    """`3 passed (1 slow), 1 failed` -> {passed: 3, failed: 1}, also `failures=1, skipped=2`."""
    text = re.sub(r"\([^)]*\)", "", text)
    found = {}
    for number, word in re.findall(r"(\d+) (\w+)", text):
        found[word] = found.get(word, 0) + int(number)
    for word, number in re.findall(r"([\w ]+)=(\d+)", text):
        found[word.strip()] = found.get(word.strip(), 0) + int(number)
    return found


def count(lines):
    """The sum of (passed, failed, skipped) over every closing line."""
    passed = failed = skipped = 0
    ran = None  # unittest's number of tests, until the line with its outcome

    def add(numbers):
        nonlocal passed, failed, skipped
        passed, failed, skipped = (total + int(n or 0) for total, n in zip((passed, failed, skipped), numbers, strict=True))

    for raw in lines:
        line = ANSI.sub("", raw).rstrip("\r\n")
        if match := PLAIN.match(line) or CARGO.match(line):
            add(match.groups())
        elif match := NEXTEST.match(line):
            got = words(match["rest"])
            add((got.get("passed"), got.get("failed", 0) + got.get("timed", 0), got.get("skipped")))
        elif match := UNITTEST.match(line):
            ran = int(match[1])
        elif ran is not None and (match := UNITTEST_END.match(line)):
            got = words(match["rest"] or "")
            bad = got.get("failures", 0) + got.get("errors", 0) + got.get("unexpected successes", 0)
            left_out = got.get("skipped", 0)
            add((max(ran - bad - left_out, 0), bad, left_out))
            ran = None
        elif match := PYTEST.match(line):
            got = words(match["rest"])
            bad = got.get("failed", 0) + got.get("error", 0) + got.get("errors", 0)
            add((got.get("passed", 0) + got.get("xpassed", 0), bad, got.get("skipped", 0) + got.get("xfailed", 0)))
        elif match := NODE.match(line):
            kind = match[1]
            add(match[2] if kind in kinds else 0 for kinds in (("pass",), ("fail", "cancelled"), ("skipped", "todo")))
    return passed, failed, skipped


def total(rows):
    """The closing line for the rows of a tally file."""
    sums = [0, 0, 0]
    for row in rows:
        for at, number in enumerate(row.split()[2:5]):
            sums[at] += int(number)
    return "{} passed, {} failed, {} skipped".format(*sums)


def idle(rows):
    """The needed stages in which no test passed, or that did not run."""
    passed = {}
    for row in rows:
        name, _, number, *_ = row.split()
        passed[name] = passed.get(name, 0) + int(number)
    return [name for name in NEEDED if not passed.get(name)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name")
    parser.add_argument("--status", type=int, default=0)
    parser.add_argument("--ms", type=int, default=0)
    parser.add_argument("--total", action="store_true", help="LOG is a tally: print its rows and the closing line")
    parser.add_argument("log")
    args = parser.parse_args()
    with open(args.log, encoding="utf-8", errors="replace") as file:
        lines = file.readlines()
    if args.total:
        for row in lines:
            name, ms, passed, failed, skipped = row.split()
            print(f"{int(ms) / 1000:8.1f} s  {name:<24} {passed:>5} passed {failed:>4} failed {skipped:>4} skipped")
        left_out = idle(lines)
        for name in left_out:
            print(f"refused: no test passed in {name}")
        print(total(lines))
        return 1 if left_out else 0
    passed, failed, skipped = count(lines)
    if args.status != 0 and failed == 0:
        failed = 1
    verdict = "ok" if args.status == 0 else f"FAILED (exit {args.status})"
    print(f"-- {args.name}: {verdict} in {args.ms / 1000:.1f} s")
    if tally := os.environ.get("CI_TALLY"):
        with open(tally, "a", encoding="utf-8") as file:
            file.write(f"{args.name} {args.ms} {passed} {failed} {skipped}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
