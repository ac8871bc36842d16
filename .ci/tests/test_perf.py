"""A budget below what was measured turns `make perf` red, and percentiles are nearest-rank."""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
RECORDED = ROOT / ".ci/tests/fixtures/perf.summary.json"
BUDGETS = ROOT / "k6/budgets.yml"
sys.path[:0] = [str(ROOT / "k6"), str(ROOT / "benches")]

import perf
import quantile


def recorded():
    return json.loads(RECORDED.read_text())


def judged(budgets, summary=RECORDED):
    """Exit code and output of `k6/perf.py` on a recorded run."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "budgets.yml")
        path.write_text(yaml.safe_dump(budgets))
        command = [sys.executable, ROOT / "k6/perf.py", "--summary", summary, "--budgets", path]
        done = subprocess.run(command, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr


class Budgets(unittest.TestCase):
    def setUp(self):
        self.budgets = yaml.safe_load(BUDGETS.read_text())

    def test_the_recorded_run_keeps_the_budgets_in_the_tree(self):
        code, output = judged(self.budgets)
        self.assertEqual(code, 0, output)

    def test_each_budget_turns_the_run_red_once_it_is_below_the_measured_value(self):
        for name, value in perf.measured(recorded()).items():
            with self.subTest(name):
                code, output = judged(self.budgets | {name: value - 0.001})
                self.assertEqual(code, perf.OVER, output)
                over = [line.split()[0] for line in output.splitlines() if line.endswith("OVER")]
                self.assertEqual(over, [name])

    def test_a_value_that_equals_its_budget_keeps_it(self):
        self.assertEqual(judged(perf.measured(recorded()))[0], 0)

    def test_a_budget_without_a_measurement_and_the_other_way_round_are_errors(self):
        missing = dict(self.budgets)
        del missing["proxy_p95_ms"]
        for budgets in (missing, self.budgets | {"snapshot_p95_ms": 50}):
            self.assertEqual(judged(budgets)[0], 1)

    def test_a_trend_that_was_not_measured_is_an_error(self):
        summary = recorded()
        del summary["trends"]["blocked"]
        with self.assertRaises(KeyError):
            perf.measured(summary)


class Summary(unittest.TestCase):
    def test_samples_of_k6_become_percentiles_and_counts(self):
        rows = [{"metric_name": "plain", "metric_value": str(n)} for n in (3, 1, 2)]
        rows += [{"metric_name": "failed_calls", "metric_value": value} for value in ("0", "1", "1")]
        rows += [{"metric_name": "http_req_duration", "metric_value": "9"}]
        summary = perf.summarize(rows, receipts=3)
        self.assertEqual(summary["trends"], {"plain": {"calls": 3, "p50_ms": 2, "p95_ms": 3, "p99_ms": 3}})
        self.assertEqual(summary["counts"], {"failed_calls": 2, "receipts": 3})

    def test_a_call_without_a_receipt_is_counted(self):
        summary = recorded()
        summary["counts"]["receipts"] -= 1
        self.assertEqual(perf.measured(summary)["unreceipted_calls"], 1)


class Quantile(unittest.TestCase):
    def test_percentiles_are_those_of_the_vectors(self):
        cases = json.loads((ROOT / "benches/quantile.vectors.json").read_text())["cases"]
        for case in cases:
            for percent in (50, 95, 99):
                self.assertEqual(quantile.percentile(case["values"], percent), case[f"p{percent}"], case)
        self.assertGreater(len(cases), 5)

    def test_nothing_has_no_percentile(self):
        for values, percent in (([], 50), ([1], 0), ([1], 101)):
            with self.assertRaises(ValueError):
                quantile.percentile(values, percent)


if __name__ == "__main__":
    unittest.main()
