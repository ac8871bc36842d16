"""The composite action as a runner runs it, on what verify-bundle.yml gives it."""

import os
import pathlib
import subprocess
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent

try:
    import yaml
except ModuleNotFoundError as error:  # PyYAML comes with make setup
    raise unittest.SkipTest(str(error)) from error

ACTION = ROOT / ".github/actions/verify-bundle"
VECTORS = "spec/pef/vectors"
GOOD = f"{VECTORS}/valid-ambient/bundle.pef.zip"
FORGED = f"{VECTORS}/forged-line-bit-sign-checkpoint/bundle.pef.zip"


def run(**given):
    """The exit code of the action's steps with these inputs."""
    action = yaml.safe_load((ACTION / "action.yml").read_text())
    inputs = {name: given.get(name, row.get("default")) for name, row in action["inputs"].items()}
    for step in action["runs"]["steps"]:
        env = {name: inputs[text.strip("${} ").removeprefix("inputs.")] for name, text in step["env"].items()}
        env = os.environ | env | {"GITHUB_ACTION_PATH": str(ACTION)}
        ran = subprocess.run(["bash", "-eo", "pipefail", "-c", step["run"]], cwd=ROOT, env=env, capture_output=True)
        if ran.returncode != 0:
            return ran.returncode
    return 0


class Action(unittest.TestCase):
    def test_a_good_bundle_passes_and_a_forged_one_fails(self):
        self.assertEqual(run(bundle=GOOD), 0)
        self.assertEqual(run(bundle=FORGED), 2)

    def test_a_refusal_that_is_wanted_passes_and_its_absence_fails(self):
        self.assertEqual(run(bundle=FORGED, expect="refused"), 0)
        self.assertEqual(run(bundle=GOOD, expect="refused"), 2)

    def test_what_is_no_bundle_is_neither(self):
        for expect in ("accepted", "refused"):
            self.assertNotEqual(run(bundle=f"{VECTORS}/absent.pef.zip", expect=expect), 0)

    def test_an_input_is_never_code(self):
        self.assertNotEqual(run(bundle='"; exit 0; "'), 0)

    def test_the_workflow_gives_it_one_of_each(self):
        workflow = yaml.safe_load((ROOT / ".github/workflows/verify-bundle.yml").read_text())
        steps = workflow["jobs"]["vectors"]["steps"]
        given = [step["with"] for step in steps if step.get("uses") == "./.github/actions/verify-bundle"]
        self.assertIn({"bundle": GOOD}, given)
        self.assertIn({"bundle": FORGED, "expect": "refused"}, given)


if __name__ == "__main__":
    unittest.main()
