"""The table of benches/peers: ratios inside a round, medians over rounds, missing peers by name."""

import pathlib
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benches/peers"))

import compare


def run(rps, cpu_us):
    return {"done": 100, "errors": 0, "events": 0, "rps": rps, "cpu_us": cpu_us, "pss": 2.0, "rss": 3.0,
            "mb_s": 1.0, "latency": {"p50": 1.0, "p95": 2.0, "p99": 3.0}}


def data(rounds):
    runs = [{"max": {"direct": run(100, None), compare.FLOOR: run(*floor), "ours": run(*ours)}} for floor, ours in rounds]
    return {"cases": {"max": ("mode=closed", "llm")}, "peers": {compare.FLOOR: 1.0, "ours": 1.0},
            "absent": {"nginx": "No such file or directory"}, "runs": runs}


def cells(text, peer):
    row = next(line for line in text.splitlines() if line.startswith(f"| {peer} |"))
    return [cell.strip() for cell in row.strip("|").split("|")][1:]


class Summary(unittest.TestCase):
    def test_ratios_are_taken_inside_a_round_before_the_median(self):
        # The second round ran at half the speed. Ratios of medians would be 0.5 and 2.5.
        rounds = [((80, 10), (40, 20)), ((40, 20), (10, 50)), ((80, 10), (40, 20))]
        self.assertEqual(cells(compare.summary(data(rounds)), "ours"), ["40", "0.50", "20.0", "2.00"])
        self.assertEqual(cells(compare.summary(data(rounds[:2])), "ours"), ["10", "0.25", "20.0", "2.00"])

    def test_a_missing_peer_is_named_with_its_cause(self):
        self.assertIn("Missing: **nginx**: No such file or directory", compare.summary(data([((1, 1), (1, 1))])))

    def test_a_figure_that_was_not_measured_is_a_dash(self):
        self.assertEqual(cells(compare.summary(data([((80, 10), (40, None))])), "ours"), ["40", "0.50", "-", "-"])

    def test_both_tables_print(self):
        text = compare.tables(data([((80, 10), (40, 20))]))
        self.assertIn("| ours | 40 | 0.400 |", text)


if __name__ == "__main__":
    unittest.main()
