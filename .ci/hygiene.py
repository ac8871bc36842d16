"""What every checkout must have, and how workflows, the container file and lock files must look.

Each check takes the root of a tree and yields findings; `.ci/tests/test_hygiene.py` breaks each one. PyYAML is needed.
"""

import argparse
import os
import pathlib
import re
import subprocess
import sys

import yaml

REQUIRED = """
README.md LICENSE NOTICE CONTRIBUTING.md SECURITY.md CODE_OF_CONDUCT.md SUPPORT.md CHANGELOG.md
Cargo.toml Cargo.lock Makefile deny.toml rustfmt.toml clippy.toml .editorconfig .gitignore
.github/ISSUE_TEMPLATE/bug.yml .github/ISSUE_TEMPLATE/feature.yml .github/pull_request_template.md
.github/workflows/ci.yml .github/workflows/nightly.yml .github/workflows/release.yml
.github/workflows/verify-bundle.yml .github/actions/verify-bundle/action.yml
.ci/run .ci/advisories.toml
docs/architecture.md docs/cli.md docs/life-of-a-call.md docs/trust.md docs/defaults.md docs/adr/README.md docs/changes/README.md
spec/pef/SPEC.md spec/pef/VERSIONING.md spec/reasons.json spec/requirements.toml spec/traceability.toml
deploy/README.md deploy/container/Containerfile deploy/systemd/estoppeld.service
k6/budgets.yml test/requirements.txt test/package-lock.json
""".split()

# What a workflow may run: one script of .ci/ or one target of the Makefile, with plain arguments. A composite action
# runs in the repository of whoever uses it, so it finds our scripts from its own path.
RUN = re.compile(
    r"""(?:"\$GITHUB_ACTION_PATH/\.\./\.\./\.\./\.ci/(?P<action>[a-z-]+)"
        |\.ci/(?P<script>[a-z-]+)
        |make\ (?P<target>[a-z-]+))
        (?:\ (?:[A-Za-z0-9._/=-]+|"\$[A-Z_]+"))*""",
    re.VERBOSE,
)
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}")


def required_files(root):
    for name in REQUIRED:
        path = root / name
        if not path.is_file():
            yield f"{name}: required and missing"
        elif path.stat().st_size == 0:
            yield f"{name}: required and empty"


def make_targets(root):
    makefile = root / "Makefile"
    return set(re.findall(r"^([a-z-]+):", makefile.read_text(), re.MULTILINE)) if makefile.is_file() else set()


def steps(root, where, rows):
    """Findings for the steps of one job or composite action."""
    works = False
    for number, step in enumerate(rows, 1):
        place = f"{where}, step {number}"
        if "uses" in step:
            used = step["uses"]
            if used.startswith("./"):
                works = True
                if not (root / used / "action.yml").is_file():
                    yield f"{place}: {used} is not there"
                bundle = step.get("with", {}).get("bundle", "")
                if bundle and "${{" not in bundle and not (root / bundle).exists():
                    yield f"{place}: the bundle {bundle} is not there"
            elif not PINNED.fullmatch(used):
                yield f"{place}: `{used}` is not pinned to a commit"
        if "run" in step:
            works = True
            match = RUN.fullmatch(step["run"].strip())
            if not match:
                yield f"{place}: runs something else than one script of .ci/ or one make target"
                continue
            script = match["script"] or match["action"]
            if script and not os.access(root / ".ci" / script, os.X_OK):
                yield f"{place}: .ci/{script} is not there or not executable"
            if match["target"] and match["target"] not in make_targets(root):
                yield f"{place}: the Makefile has no target {match['target']}"
    if not works:
        yield f"{where}: runs nothing"


def workflows(root):
    for path in sorted((root / ".github" / "workflows").glob("*.y*ml")):
        name = path.relative_to(root)
        workflow = yaml.safe_load(path.read_text())
        if "permissions" not in workflow:
            yield f"{name}: states no permissions, so it gets the default ones"
        for id, job in workflow.get("jobs", {}).items():
            where = f"{name}, job {id}"
            if "timeout-minutes" not in job:
                yield f"{where}: has no timeout-minutes"
            yield from steps(root, where, job.get("steps", []))
    for path in sorted((root / ".github" / "actions").glob("*/action.yml")):
        action = yaml.safe_load(path.read_text())
        yield from steps(root, str(path.relative_to(root)), action["runs"].get("steps", []))


# What CI runs beside the stages of `make test`: it needs a quiet machine.
APART = {"make perf"}


def stages(root):
    """CI runs the stages of `make test`, each of them, and nothing else."""
    makefile, path = root / "Makefile", root / ".github" / "workflows" / "ci.yml"
    if not makefile.is_file() or not path.is_file():
        return
    listed = re.search(r"^STAGES := (.*)$", makefile.read_text(), re.MULTILINE)
    wanted = {f".ci/{stage}" for stage in listed[1].split()} if listed else set()
    jobs = yaml.safe_load(path.read_text()).get("jobs", {}).values()
    run = {step["run"].strip() for job in jobs for step in job.get("steps", []) if "run" in step}
    for name in sorted(wanted - run):
        yield f"ci.yml: no job runs {name}, which is a stage of make test"
    for name in sorted(run - wanted - APART):
        yield f"ci.yml: runs {name}, which is no stage of make test"


def container_file(root):
    path = root / "deploy" / "container" / "Containerfile"
    if not path.is_file():
        return
    user, bases, stages = None, [], set()
    for line in re.sub(r"\\\n", " ", path.read_text()).splitlines():
        word, _, rest = line.strip().partition(" ")
        match word.upper():
            case "FROM":
                parts = [part for part in rest.split() if not part.startswith("--")]
                bases.append(parts[0])
                if len(parts) == 3:
                    stages.add(parts[2])
                user = None
            case "USER":
                user = rest.strip()
            case "ADD":
                yield "Containerfile: ADD fetches and unpacks; COPY does neither"
    uid = (user or "0").partition(":")[0]
    if not uid.isdigit() or int(uid) == 0:
        yield f"Containerfile: the last stage runs as {user or 'root'}; a number other than 0 is wanted"
    for base in bases:
        if base in stages or base == "scratch":
            continue
        if ":" not in base or base.endswith(":latest"):
            yield f"Containerfile: {base} names no version"


def systemd_unit(root, threshold=20):
    """The unit's exposure, 0 to 100, is at most `threshold` (20 is the last that systemd calls OK)."""
    path = root / "deploy" / "systemd" / "estoppeld.service"
    if not path.is_file():
        return
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", f"--threshold={threshold}", str(path)]
    try:
        ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except FileNotFoundError:
        if os.environ.get("REQUIRE_REAL") == "1":
            yield "systemd-analyze is missing (REQUIRE_REAL=1)"
        else:
            print("SKIPPED, missing: systemd-analyze, the unit's exposure is not assessed")
        return
    lines = [line for line in ran.stdout.splitlines() if "Overall exposure" in line]
    print(lines[-1].strip() if lines else ran.stdout.strip())
    if ran.returncode != 0 or not lines:
        yield f"{path.relative_to(root)}: exposure above {threshold / 10}"


def lock_files(root):
    """No lock file says where a package was downloaded from: that differs from machine to machine."""
    path = root / "test" / "package-lock.json"
    if path.is_file() and '"resolved"' in path.read_text():
        yield "test/package-lock.json: records download addresses (test/.npmrc turns that off)"
    path = root / "test" / "requirements.txt"
    if path.is_file():
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if re.match(r"\s*(--(?:extra-)?index-url|--find-links|-i\b|-f\b)|[^#]*://", line):
                yield f"test/requirements.txt:{number}: records a download address"
            if re.match(r"[a-z0-9]", line) and not re.match(r"[A-Za-z0-9._-]+(\[[a-z,]+\])?==\S+ \\$", line):
                yield f"test/requirements.txt:{number}: not pinned, or without a digest"


def decisions(root):
    index = root / "docs" / "adr" / "README.md"
    text = index.read_text() if index.is_file() else ""
    for path in sorted((root / "docs" / "adr").glob("[0-9]*.md")):
        if f"({path.name})" not in text:
            yield f"docs/adr/README.md: does not list {path.name}"
        parts = ("Context", "Decision", "Consequences", "Alternatives")
        missing = [part for part in parts if f"\n## {part}\n" not in path.read_text()]
        if missing:
            yield f"docs/adr/{path.name}: has no section {', '.join(missing)}"


def links(root):
    """Every relative link of our documents leads to something."""
    command = ["git", "-C", str(root), "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    listed = subprocess.run(command, stdout=subprocess.PIPE, text=True).stdout.split()
    for name in listed:
        path = root / name
        if not path.is_file():
            continue
        text = re.sub(r"```.*?```|`[^`\n]*`", "", path.read_text(), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"[a-z]+:|#", target):
                continue
            if not (path.parent / target.partition("#")[0]).exists():
                yield f"{name}: the link to {target} leads nowhere"


CHECKS = (required_files, workflows, stages, container_file, systemd_unit, lock_files, decisions, links)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent.parent)
    args = parser.parse_args()
    findings = 0
    for check in CHECKS:
        for finding in check(args.root):
            print(f"refused: {finding}")
            findings += 1
    print(f"hygiene: {len(CHECKS)} checks, {len(REQUIRED)} required files, {findings} refused")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
