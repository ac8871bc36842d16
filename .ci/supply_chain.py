"""The supply-chain gate: what may be linked, judged from the registry's own data alone.

Reads `cargo metadata` and deny.toml, and refuses
  - a licence expression that the allow-list and the exceptions do not satisfy, or none at all,
  - a banned crate anywhere in the graph, or banned as a direct dependency of ours,
  - a source other than the crate registry and this workspace,
  - a second version of a crate that must exist once in what is shipped (development dependencies apart),
  - a version that the local index cache says is yanked,
  - a version in a range of .ci/advisories.toml, a list kept by hand,
  - an exception whose date has passed, used or not.

No advisory database is reachable where this runs; see docs/adr/0007. What could not be learnt is printed as not
assessed, never as passed.
"""

import argparse
import datetime
import json
import os
import pathlib
import re
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent


# --- SPDX expressions ------------------------------------------------------------------------------------------------


class LicenceSyntax(ValueError):
    """The text is not an SPDX expression."""


def parse_licence(text):
    """`A OR (B AND C WITH E)` as nested tuples: ("or", …), ("and", …) or a plain id such as "c with e".

    Takes the older `A/B` for `A OR B`, as the registry still carries it. Ids come back in lower case: SPDX compares
    them without regard to case.
    """
    tokens = re.findall(r"[()]|[A-Za-z0-9.+:-]+", text.replace("/", " OR "))
    if not tokens or "".join(tokens) != re.sub(r"\s", "", text.replace("/", " OR ")):
        raise LicenceSyntax(text)
    at = 0

    def peek():
        return tokens[at].upper() if at < len(tokens) else None

    def take():
        nonlocal at
        if at >= len(tokens):
            raise LicenceSyntax(text)
        at += 1
        return tokens[at - 1]

    def one():
        token = take()
        if token == "(":
            inner = either()
            if take() != ")":
                raise LicenceSyntax(text)
            return inner
        if token == ")" or token.upper() in ("AND", "OR", "WITH"):
            raise LicenceSyntax(text)
        if peek() == "WITH":
            take()
            exception = take()
            if exception in "()":
                raise LicenceSyntax(text)
            return f"{token} with {exception}".lower()
        return token.lower()

    def chain(word, part):
        parts = [part()]
        while peek() == word.upper():
            take()
            parts.append(part())
        return parts[0] if len(parts) == 1 else (word, *parts)

    def both():
        return chain("and", one)

    def either():
        return chain("or", both)

    tree = either()
    if at != len(tokens):
        raise LicenceSyntax(text)
    return tree


def satisfied(tree, allowed):
    """Whether a choice can be made in `tree` that uses allowed ids only. `X+` is met by `X`."""
    if isinstance(tree, tuple):
        return (any if tree[0] == "or" else all)(satisfied(part, allowed) for part in tree[1:])
    return tree in allowed or (tree.endswith("+") and tree[:-1] in allowed)


# --- Versions --------------------------------------------------------------------------------------------------------


def version_key(text):
    """A key that orders versions as Semantic Versioning 2.0.0, section 11, does."""
    core, _, tail = text.partition("+")[0].partition("-")
    numbers = tuple(int(part) for part in core.split("."))
    numbers += (0,) * (3 - len(numbers))
    if not tail:
        return numbers, (1,)
    parts = tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in tail.split("."))
    return numbers, (0, parts)


COMPARISONS = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "=": lambda a, b: a == b,
}


def in_range(version, range_text):
    """Whether `version` meets every comparator of `>=1.2, <1.4`; `*` is met by all."""
    if range_text.strip() == "*":
        return True
    for comparator in range_text.split(","):
        match = re.fullmatch(r"\s*(<=|>=|<|>|=)\s*(\d+(?:\.\d+){0,2}(?:[-+][0-9A-Za-z.+-]+)?)\s*", comparator)
        if not match:
            raise ValueError(f"not a version range: `{range_text}`")
        if not COMPARISONS[match[1]](version_key(version), version_key(match[2])):
            return False
    return True


# --- The graph -------------------------------------------------------------------------------------------------------


class Graph:
    """What `cargo metadata` says, with the few questions that the rules ask."""

    def __init__(self, metadata):
        self.packages = {package["id"]: package for package in metadata["packages"]}
        self.members = set(metadata["workspace_members"])
        self.edges = {
            node["id"]: [
                (dep["pkg"], {kind["kind"] or "normal" for kind in dep["dep_kinds"]}) for dep in node["deps"]
            ]
            for node in metadata["resolve"]["nodes"]
        }

    def foreign(self):
        """Every package that is not ours, by name and version."""
        ours = (package for id, package in self.packages.items() if id not in self.members)
        return sorted(ours, key=lambda package: (package["name"], version_key(package["version"])))

    def shipped(self):
        """Ids of the packages that end up in a build of ours: members that are more than a test harness, and what
        they need outside of tests. A member on which others depend for their tests only is a test harness."""
        uses = {}
        for id in self.members:
            for target, kinds in self.edges.get(id, []):
                uses.setdefault(target, set()).update(kinds)
        reached = set()
        waiting = [id for id in self.members if uses.get(id, {"normal"}) != {"dev"}]
        while waiting:
            id = waiting.pop()
            if id in reached:
                continue
            reached.add(id)
            waiting += [target for target, kinds in self.edges.get(id, []) if kinds != {"dev"}]
        return reached

    def direct(self):
        """(member's name, dependency's name) of all that our manifests name, optional and development ones too."""
        return sorted(
            {
                (self.packages[id]["name"], dep["name"])
                for id in self.members
                for dep in self.packages[id]["dependencies"]
                if not dep.get("path")
            }
        )


# --- Rules: each yields findings -------------------------------------------------------------------------------------


def expired(rows, what, today):
    """Yields exceptions whose date has passed. A date is required: an exception is a loan."""
    for row in rows:
        name = row.get("crate") or row.get("id")
        if not isinstance(row.get("expires"), datetime.date):
            yield f"{what} for {name} has no `expires` date"
        elif row["expires"] < today:
            yield f"{what} for {name} expired on {row['expires']}: {row.get('reason', 'no reason given')}"


def licences(graph, deny, today):
    allowed = {id.lower() for id in deny["licenses"]["allow"]}
    exceptions = deny["licenses"].get("exceptions", [])
    yield from expired(exceptions, "licence exception", today)
    used = set()
    for package in graph.foreign():
        name, label = package["name"], f"{package['name']} {package['version']}"
        # The registry lets a crate name a file in place of an expression. Only an exception for NONE lets it pass.
        text = package["license"] or "NONE"
        try:
            tree = parse_licence(text)
        except LicenceSyntax:
            yield f"{label}: licence `{text}` is not an SPDX expression"
            continue
        if satisfied(tree, allowed):
            continue
        extra = {id.lower() for row in exceptions if row["crate"] == name for id in row["allow"]}
        if satisfied(tree, allowed | extra):
            used.add(name)
        else:
            yield f"{label}: licence `{text}` is not allowed"
    for row in exceptions:
        if row["crate"] not in used:
            print(f"note: the licence exception for {row['crate']} is not needed")


def bans(graph, deny, today):
    del today
    rules = deny["bans"]
    reasons = {row["crate"]: row["reason"] for row in rules.get("deny", [])}
    for package in graph.foreign():
        if package["name"] in reasons:
            yield f"{package['name']} {package['version']} is banned: {reasons[package['name']]}"
    direct = reasons | {row["crate"]: row["reason"] for row in rules.get("deny-direct", [])}
    for member, name in graph.direct():
        if name in direct:
            yield f"{member} depends on {name} directly: {direct[name]}"


def sources(graph, deny, today):
    del today
    allowed = tuple(deny["sources"]["allow"])
    for package in graph.foreign():
        kind = (package["source"] or "path").split("+")[0]
        if kind not in allowed:
            yield f"{package['name']} {package['version']} comes from a {kind} source"


def doubles(graph, deny, today):
    del today
    versions = {}
    for id in graph.shipped():
        package = graph.packages[id]
        versions.setdefault(package["name"], set()).add(package["version"])
    for name in deny["bans"].get("single", []):
        found = sorted(versions.get(name, ()), key=version_key)
        if len(found) > 1:
            yield f"{name} is in what we ship {len(found)} times: {', '.join(found)}"


def advisories(graph, deny, today, known):
    ignored = deny.get("advisories", {}).get("ignore", [])
    yield from expired(ignored, "advisory exception", today)
    skip = {row["id"] for row in ignored}
    for package in graph.foreign():
        for row in known:
            if row["crate"] != package["name"] or row["id"] in skip:
                continue
            if any(in_range(package["version"], affected) for affected in row["affected"]):
                yield f"{package['name']} {package['version']}: {row['id']}, {row['title']}"


# --- Yanked versions -------------------------------------------------------------------------------------------------


def index_file(name):
    """Where an index keeps a crate, relative to its root."""
    name = name.lower()
    if len(name) <= 2:
        return f"{len(name)}/{name}"
    if len(name) == 3:
        return f"3/{name[0]}/{name}"
    return f"{name[:2]}/{name[2:4]}/{name}"


def read_index(data):
    """{version: yanked} from one file of cargo's index cache.

    Its form: a byte for the cache's version (3), four for the index's, a NUL-terminated revision, then pairs of
    NUL-terminated version and JSON. Another form gives nothing, which is reported as not assessed.
    """
    if len(data) < 6 or data[0] != 3:
        return {}
    fields = data[5:].split(b"\0")[1:]
    found = {}
    for line in fields[1::2]:
        try:
            row = json.loads(line)
            found[row["vers"]] = bool(row["yanked"])
        except (ValueError, KeyError, TypeError):
            return {}
    return found


def yanked(graph, indexes, required=False):
    """Yields yanked versions. Prints what could not be learnt; with `required`, that is a finding too."""
    unknown = []
    listed = ("registry+", "sparse+")
    packages = [package for package in graph.foreign() if (package["source"] or "").startswith(listed)]
    for package in packages:
        states = set()
        for index in indexes:
            path = index / ".cache" / index_file(package["name"])
            if path.is_file():
                states.add(read_index(path.read_bytes()).get(package["version"]))
        if True in states:
            yield f"{package['name']} {package['version']} is yanked"
        elif False not in states:
            unknown.append(package["name"])
    known = len(packages) - len(unknown)
    print(f"yanked: known of {known} of {len(packages)} versions from the local index cache")
    if unknown:
        names = f"{', '.join(unknown[:12])}{' …' if len(unknown) > 12 else ''}"
        print(f"yanked: not assessed: {names}")
        if required:
            yield f"{len(unknown)} versions may be yanked, the index cache does not know them (REQUIRE_REAL=1)"


# --- The program -----------------------------------------------------------------------------------------------------


def cargo_metadata():
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--all-features"]
    ran = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE)
    if ran.returncode != 0:
        raise SystemExit("supply chain: not assessed, cargo metadata failed (its words are above)")
    return json.loads(ran.stdout)


def cargo_indexes():
    home = pathlib.Path(os.environ.get("CARGO_HOME") or pathlib.Path.home() / ".cargo")
    return sorted((home / "registry" / "index").glob("*"))


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metadata", type=pathlib.Path, help="output of cargo metadata; without it, cargo is asked")
    parser.add_argument("--deny", type=pathlib.Path, default=ROOT / "deny.toml")
    parser.add_argument("--advisories", type=pathlib.Path, default=ROOT / ".ci" / "advisories.toml")
    parser.add_argument("--index", type=pathlib.Path, action="append", help="index cache; without it, cargo's own")
    parser.add_argument("--today", type=datetime.date.fromisoformat, default=datetime.date.today())
    args = parser.parse_args(argv)

    metadata = json.loads(args.metadata.read_text()) if args.metadata else cargo_metadata()
    deny = tomllib.loads(args.deny.read_text())
    known = tomllib.loads(args.advisories.read_text())["advisory"]
    graph = Graph(metadata)

    findings = []
    for rule in (licences, bans, sources, doubles):
        findings += rule(graph, deny, args.today)
    findings += advisories(graph, deny, args.today, known)
    required = os.environ.get("REQUIRE_REAL") == "1" and args.metadata is None
    findings += yanked(graph, args.index if args.index is not None else cargo_indexes(), required)

    for finding in findings:
        print(f"refused: {finding}")
    print(
        f"supply chain: {len(graph.foreign())} crates of others, {len(known)} advisories in the hand-kept list, "
        f"{len(findings)} refused"
    )
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
