"""What certificate_check.py says of certificates, without bundles: test/e2e/replay_tolerance.rs holds it against real ones."""

import copy
import json
import os
import tempfile
import unittest

import certificate_check

SPEC = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
CALL = "01980000-0000-7000-8000-000000000000"
SAID = {
    "bodies_by": "tag",
    "bundle": {},
    "counts": {
        "drift": [], "matched": 2, "miss": 0, "missing": 0, "recorded": 2,
        "reordered": 0, "skipped": [], "tolerated": 1, "truncated": 0,
    },
    "determinism": {
        "differences": 1, "from": "bundle",
        "tolerated": [{"at": "/a", "by": "absolute", "call": CALL, "found": "1", "part": "request", "recorded": "2", "seq": 1}],
    },
    "divergences": [], "divergences_more": 0, "finished": "2026-11-22T06:00:00.000000Z", "matching": "strict", "mode": "stub",
    "reasons": ["TOLERATED"], "side": "client", "started": "2026-11-22T06:00:00.000000Z", "status": "success", "upstream_connections": 0,
}  # fmt: skip


class Certificates(unittest.TestCase):
    def check(self, *changes):
        said = copy.deepcopy(SAID)
        for names, value in changes:
            at = said
            for name in names[:-1]:
                at = at[name]
            at[names[-1]] = copy.deepcopy(value)
        said = {name: value for name, value in said.items() if value is not None}
        certificate_check.check_status(said)

    def test_what_follows_holds_and_what_contradicts_does_not(self):
        self.check()
        divergence = [{"call": CALL, "code": "ARG_DRIFT", "seq": 1}]
        for changes in (
            [(("status",), "failed")],
            [(("counts", "matched"), 1)],
            [(("counts", "tolerated"), 0), (("reasons",), [])],
            [(("determinism", "tolerated"), [])],
            [(("upstream_connections",), 1)],
            [(("divergences",), divergence), (("first_divergent_seq",), 1)],
            [(("divergences_more",), 1)],
            [(("counts", "matched"), 0), (("counts", "recorded"), 0)],
            [(("mode",), "tag")],
        ):
            with self.assertRaises(certificate_check.Refused, msg=changes) as refused:
                self.check(*changes)
            self.assertEqual(refused.exception.code, "CERTIFICATE_STATUS")

    def test_no_more_statements_were_compared_than_were_sent(self):
        database = {
            "compared": {"counts": 0, "rows": 2}, "denied": [], "gone": True, "kept": True, "not_recreated": [],
            "statements": 2,
        }  # fmt: skip
        to_database = [
            (("mode",), "database"), (("side",), None), (("database",), database), (("reasons",), []),
            (("counts", "tolerated"), 0), (("determinism",), {"differences": 0, "from": "bundle", "tolerated": []}),
        ]  # fmt: skip
        not_compared = [{"code": "NOT_COMPARED", "count": 1}]
        partial = [
            (("counts", "skipped"), not_compared), (("counts", "matched"), 1), (("reasons",), ["NOT_COMPARED"]),
            (("status",), "partial"),
        ]  # fmt: skip
        self.check(*to_database)
        self.check(*to_database, *partial)
        for changes in (
            [*to_database, (("database", "compared", "rows"), 3)],
            [*to_database, (("database", "compared", "counts"), 3)],
            [*to_database, *partial, (("status",), "success")],
            [(("counts", "skipped"), not_compared), (("counts", "matched"), 1), (("reasons",), ["NOT_COMPARED", "TOLERATED"])],
        ):
            with self.assertRaises(certificate_check.Refused, msg=changes) as refused:
                self.check(*changes)
            self.assertEqual(refused.exception.code, "CERTIFICATE_STATUS")

    def test_every_vector_is_answered_as_it_says(self):
        with open(os.path.join(SPEC, "replay-vectors.json"), encoding="utf-8") as file:
            vectors = json.load(file)
        bundle = os.path.join(SPEC, *vectors["bundle"].split("/"))
        self.assertGreater(len(vectors["cases"]), 80)
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "certificate.json")
            for case in vectors["cases"]:
                with open(path, "w", encoding="utf-8") as file:
                    file.write(case["certificate"])
                answer = certificate_check.judge(path, bundle)
                with self.subTest(case["name"]):
                    self.assertEqual(answer["reason"], case["result"].get("code"), answer["detail"])

    def test_paths_lead_as_policies_have_it(self):
        for path, pointer, expected in (
            ("/a", "/a", True), ("/a", "/a/b", False), ("/*/b", "/0/b", True), ("/**/b", "/b", True),
            ("/**/b", "/a/0/b", True), ("/a/**", "/a", True), ("/**/a/*", "/a/a/a/x", True), ("/a~1b", "/a/b", False),
        ):  # fmt: skip
            names = certificate_check.names
            self.assertEqual(certificate_check.leads(names(path), names(pointer)), expected, (path, pointer))


if __name__ == "__main__":
    unittest.main()
