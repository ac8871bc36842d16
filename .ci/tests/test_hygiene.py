"""Each hygiene check finds the fault that it is there for."""

import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

try:
    import hygiene
except ModuleNotFoundError as error:  # PyYAML comes with make setup
    raise unittest.SkipTest(str(error)) from error

WORKFLOW = """
on: [push]
permissions: {{ contents: read }}
jobs:
  test:
    runs-on: x
    {limit}
    steps:
      - uses: actions/checkout@{ref}
      - run: {run}
"""
COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONTAINER = "FROM rust:1.95 AS build\nRUN x\nFROM debian:bookworm-slim\nCOPY --from=build /a /a\nUSER 65532:65532\n"


class Tree(unittest.TestCase):
    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.root = pathlib.Path(holder.name)

    def write(self, name, text, mode=0o644):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)


class RequiredFiles(Tree):
    def test_finds_each_missing_or_empty_file(self):
        for name in hygiene.REQUIRED:
            self.write(name, "x\n")
        self.assertEqual(list(hygiene.required_files(self.root)), [])
        for name in hygiene.REQUIRED:
            with self.subTest(name):
                (self.root / name).unlink()
                self.assertEqual(list(hygiene.required_files(self.root)), [f"{name}: required and missing"])
                self.write(name, "")
                self.assertEqual(list(hygiene.required_files(self.root)), [f"{name}: required and empty"])
                self.write(name, "x\n")


class Workflows(Tree):
    def setUp(self):
        super().setUp()
        self.write(".ci/run", "", 0o755)
        self.write(".ci/plain", "")
        self.write("Makefile", "test:\n\techo\n")

    def found(self, run=".ci/run", ref=COMMIT, limit="timeout-minutes: 5", text=None):
        self.write(".github/workflows/ci.yml", text or WORKFLOW.format(run=run, ref=ref, limit=limit))
        return list(hygiene.workflows(self.root))

    def test_accepts_a_script_or_a_target_with_plain_arguments(self):
        for run in (".ci/run", "make test", ".ci/run --all a/b.zip", "'.ci/run \"$BUNDLE\"'"):
            with self.subTest(run):
                self.assertEqual(self.found(run), [])

    def test_refuses_anything_else(self):
        for run in (
            "cargo test",
            ".ci/run && rm x",
            ".ci/run; x",
            "bash -c x",
            "'.ci/run ${{ github.head_ref }}'",
            "'.ci/run $(x)'",
            "|\n          .ci/run\n          echo",
            "./.ci/run | tee x",
        ):
            with self.subTest(run):
                self.assertEqual(len(self.found(run)), 1)

    def test_refuses_a_script_or_target_that_is_not_there(self):
        for run in (".ci/absent", ".ci/plain", "make absent"):
            with self.subTest(run):
                self.assertEqual(len(self.found(run)), 1)

    def test_refuses_an_action_that_is_not_pinned(self):
        self.assertEqual(len(self.found(ref="v4")), 1)

    def test_refuses_a_job_without_a_limit_of_time(self):
        self.assertEqual(len(self.found(limit="name: x")), 1)

    def test_refuses_default_permissions_and_idle_jobs(self):
        text = f"on: [push]\njobs:\n  a:\n    timeout-minutes: 1\n    steps:\n      - uses: a/b@{COMMIT}\n"
        self.assertEqual(len(self.found(text=text)), 2)

    def test_refuses_a_local_action_or_bundle_that_is_not_there(self):
        text = (
            "on: [push]\npermissions: {}\njobs:\n  a:\n    timeout-minutes: 1\n    steps:\n"
            "      - uses: ./.github/actions/a\n        with: { bundle: b.zip }\n"
        )
        self.assertEqual(len(self.found(text=text)), 2)
        self.write(".github/actions/a/action.yml", "runs:\n  steps:\n    - run: .ci/run\n")
        self.write("b.zip", "")
        self.assertEqual(self.found(text=text), [])

    def test_a_composite_action_finds_scripts_from_its_own_path(self):
        run = '"$GITHUB_ACTION_PATH/../../../.ci/run" "$BUNDLE"'
        action = f"runs:\n  using: composite\n  steps:\n    - shell: bash\n      run: '{run}'\n"
        self.write(".github/actions/a/action.yml", action)
        self.assertEqual(self.found(), [])
        self.write(".github/actions/a/action.yml", "runs:\n  using: composite\n  steps:\n    - run: echo\n")
        self.assertEqual(len(self.found()), 1)


class Stages(Tree):
    def found(self, stages, *runs):
        self.write("Makefile", f"STAGES := {stages}\n")
        steps = "".join(f"      - run: {run}\n" for run in runs)
        self.write(".github/workflows/ci.yml", f"jobs:\n  a:\n    steps:\n{steps}")
        return list(hygiene.stages(self.root))

    def test_accepts_each_stage_and_what_needs_a_quiet_machine(self):
        self.assertEqual(self.found("lint docs", ".ci/lint", ".ci/docs", "make perf"), [])

    def test_refuses_a_stage_that_ci_leaves_out(self):
        self.assertEqual(len(self.found("lint docs", ".ci/lint")), 1)

    def test_refuses_a_step_that_is_no_stage(self):
        self.assertEqual(len(self.found("lint", ".ci/lint", ".ci/docs")), 1)


class ContainerFile(Tree):
    def found(self, text):
        self.write("deploy/container/Containerfile", text)
        return list(hygiene.container_file(self.root))

    def test_accepts_a_numeric_user(self):
        self.assertEqual(self.found(CONTAINER), [])

    def test_refuses_root_by_any_name(self):
        for user in ("USER 0", "USER root", "USER 0:0", "", "USER nobody"):
            with self.subTest(user):
                self.assertEqual(len(self.found(CONTAINER.replace("USER 65532:65532", user))), 1)

    def test_a_user_of_an_earlier_stage_does_not_count(self):
        self.assertEqual(len(self.found("FROM a:1 AS b\nUSER 65532\nFROM c:1\nCOPY --from=b /a /a\n")), 1)

    def test_refuses_a_base_without_version_and_add(self):
        self.assertEqual(len(self.found(CONTAINER.replace("debian:bookworm-slim", "debian"))), 1)
        self.assertEqual(len(self.found(CONTAINER.replace("debian:bookworm-slim", "debian:latest"))), 1)
        self.assertEqual(len(self.found(CONTAINER + "ADD x /x\n")), 1)


class SystemdUnit(Tree):
    def test_refuses_a_unit_without_hardening(self):
        import shutil

        if not shutil.which("systemd-analyze"):
            self.skipTest("systemd-analyze is missing")
        self.write("deploy/systemd/estoppeld.service", "[Service]\nExecStart=/usr/bin/estoppeld\n")
        self.assertEqual(len(list(hygiene.systemd_unit(self.root))), 1)


class LockFiles(Tree):
    def test_refuses_download_addresses_and_loose_versions(self):
        self.write("test/package-lock.json", '{"packages": {"a": {"integrity": "x"}}}')
        self.write("test/requirements.txt", "a==1 \\\n    --hash=sha256:00\n")
        self.assertEqual(list(hygiene.lock_files(self.root)), [])
        self.write("test/package-lock.json", '{"packages": {"a": {"resolved": "https://x"}}}')
        self.assertEqual(len(list(hygiene.lock_files(self.root))), 1)
        for line in ("--index-url https://x", "a @ https://x", "a>=1", "a==1"):
            with self.subTest(line):
                self.write("test/requirements.txt", line + "\n")
                self.assertGreaterEqual(len(list(hygiene.lock_files(self.root))), 2)


class Documents(Tree):
    ADR = "# 1\n\n## Context\n\n## Decision\n\n## Consequences\n\n## Alternatives\n"

    def test_refuses_a_decision_that_is_not_in_the_index_or_not_whole(self):
        self.write("docs/adr/README.md", "[1](0001-a.md)\n")
        self.write("docs/adr/0001-a.md", self.ADR)
        self.assertEqual(list(hygiene.decisions(self.root)), [])
        self.write("docs/adr/0002-b.md", self.ADR)
        self.assertEqual(len(list(hygiene.decisions(self.root))), 1)
        self.write("docs/adr/0001-a.md", self.ADR.replace("## Alternatives", ""))
        self.assertEqual(len(list(hygiene.decisions(self.root))), 2)

    def test_refuses_a_link_that_leads_nowhere(self):
        import subprocess

        subprocess.run(["git", "init", "-q", self.root], check=True)
        self.write("docs/x.md", "x")
        self.write("README.md", "[a](docs/x.md#b) [b](https://example.org) [c](#d) `[e](f)`\n")
        self.assertEqual(list(hygiene.links(self.root)), [])
        self.write("README.md", "[a](docs/y.md)\n")
        self.assertEqual(len(list(hygiene.links(self.root))), 1)


if __name__ == "__main__":
    unittest.main()
