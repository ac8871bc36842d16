"""What benches/beside.py makes of a run: its figures, and which runs it refuses."""

import copy
import pathlib
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benches"))

import beside


def kept():
    """A run with which nothing is wrong."""
    times = {name: {kind: [1.0] * 99 + [2.0] for kind in beside.KINDS} for name in beside.GATEWAYS}
    none = {"calls": 300, "blocks": 100, "judged": 0, "skipped": 0, "tapped": 0, "untapped": 0}
    receipts = {name: dict(none) for name in beside.GATEWAYS}
    receipts["shadow"]["judged"] = 1200
    blocks = dict.fromkeys(beside.GATEWAYS, 100.0)
    return {"times": times, "blocks": blocks, "failed": dict.fromkeys(beside.GATEWAYS, 0), "dropped": 0, "receipts": receipts}


class Judged(unittest.TestCase):
    def test_nothing_is_wrong_with_a_run_in_which_nothing_differs(self):
        self.assertEqual(beside.judged(kept()), [])

    def test_each_thing_that_is_wrong_is_said(self):
        def late(name):
            return lambda data: data["times"].update({name: {kind: [1.0] * 97 + [2.1] * 3 for kind in beside.KINDS}})

        for change, said in (
            (lambda data: data["blocks"].update(shadow=99.0), "shadow: 99 blocked answers"),
            (lambda data: data["receipts"]["tap"].update(blocks=101), "tap: 101 blocked receipts"),
            (lambda data: data["failed"].update(again=1), "again: 1 answers"),
            (lambda data: data["receipts"]["shadow"].update(skipped=1), "1 skipped"),
            (lambda data: data["receipts"]["shadow"].update(judged=1199), "1199 verdicts"),
            (late("shadow"), "shadow: p99 is 1.100 ms above"),
            (late("tap"), "tap: p99 is 1.100 ms above"),
        ):
            with self.subTest(said):
                data = copy.deepcopy(kept())
                change(data)
                wrong = beside.judged(data)
                self.assertEqual(len(wrong), 1, wrong)
                self.assertIn(said, wrong[0])

    def test_a_run_in_which_nothing_was_blocked_shows_nothing(self):
        data = kept()
        data["blocks"] = dict.fromkeys(beside.GATEWAYS, 0.0)
        self.assertTrue(beside.judged(data))


class Collected(unittest.TestCase):
    def test_samples_of_k6_are_told_apart_by_gateway_and_kind(self):
        rows = [("shadow_plain", 3), ("tap_blocks", 1), ("tap_blocks", 0), ("again_failed", 1), ("http_reqs", 9), ("dropped_iterations", 2)]
        data = beside.collected({"metric_name": name, "metric_value": str(value)} for name, value in rows)
        self.assertEqual(data["times"]["shadow"], {"plain": [3.0], "streamed": [], "blocked": []})
        self.assertEqual((data["blocks"]["tap"], data["failed"]["again"], data["dropped"]), (1, 1, 2))

    def test_receipts_are_counted(self):
        call = {"kind": "call", "verdict": {"action": "block"}, "detectors": [{"outcome": "tapped"}, {"outcome": "skipped"}]}
        call["shadow"] = [{"state": "judged"}, {"state": "skipped"}]
        counted = beside.counted({"tap": [call, {"kind": "run.open"}]})["tap"]
        self.assertEqual(counted, {"calls": 1, "blocks": 1, "judged": 1, "skipped": 1, "tapped": 1, "untapped": 1})


class Policies(unittest.TestCase):
    def test_the_tapped_policy_is_the_baseline_with_a_detector(self):
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            text = beside.tapped(pathlib.Path(folder), "127.0.0.1:1").read_text()
        self.assertIn("detectors: { dlp: {", text)
        self.assertEqual(len(text.splitlines()), len(beside.BASELINE.splitlines()) + 2)


if __name__ == "__main__":
    unittest.main()
