"""The verdict of .ci/verify-bundle on what the two verifiers say."""

import contextlib
import io
import json
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import verify_bundle

VERDICTS = {"integrity": "ok", "authenticity": "self_asserted", "completeness": "complete", "anchoring": "absent"}
GOOD = {
    "ok": True,
    "reason": None,
    "seq": None,
    "index": None,
    "verdicts": VERDICTS,
    "kind": "bundle",
    "run": "r",
    "entries": 3,
}
BAD = {"ok": False, "reason": "CHAIN_BROKEN", "seq": 3, "index": None, "verdicts": VERDICTS | {"integrity": "failed"}}


def faults(python, javascript, expect="accepted"):
    answers = {"python": (*python, ""), "javascript": (*javascript, "")}
    return list(verify_bundle.judge(answers, expect))


class Judge(unittest.TestCase):
    def test_both_accept(self):
        self.assertEqual(faults((0, GOOD), (0, GOOD)), [])

    def test_either_refusal_fails(self):
        self.assertTrue(faults((2, BAD), (2, BAD)))
        self.assertTrue(faults((0, GOOD), (2, BAD)))
        self.assertTrue(faults((2, BAD), (0, GOOD)))

    def test_another_answer_is_a_disagreement_though_both_accept(self):
        trusted = GOOD | {"verdicts": VERDICTS | {"authenticity": "trusted"}}
        self.assertEqual(len(faults((0, GOOD), (0, trusted))), 1)
        self.assertEqual(len(faults((0, GOOD), (0, GOOD | {"entries": 4}))), 1)

    def test_a_refusal_that_is_wanted_must_have_one_reason(self):
        self.assertEqual(faults((2, BAD), (2, BAD), "refused"), [])
        self.assertEqual(len(faults((2, BAD), (2, BAD | {"seq": 4}), "refused")), 1)
        self.assertTrue(faults((0, GOOD), (0, GOOD), "refused"))

    def test_a_crash_or_a_missing_file_is_never_the_wanted_refusal(self):
        for code in (1, 6, 127, -9):
            with self.subTest(code):
                self.assertTrue(faults((code, None), (code, None), "refused"))

    def test_an_answer_that_cannot_be_read_fails(self):
        self.assertTrue(faults((0, None), (0, None)))


class Programs(unittest.TestCase):
    """With stand-ins for the verifiers, which print what they are told."""

    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.root = pathlib.Path(holder.name)
        self.addCleanup(setattr, verify_bundle, "VERIFIERS", verify_bundle.VERIFIERS)
        self.says(GOOD, GOOD)

    def says(self, *answers):
        verify_bundle.VERIFIERS = {}
        for name, answer in zip(("python", "javascript"), answers, strict=True):
            program = self.root / f"{name}.py"
            text = answer if isinstance(answer, str) else json.dumps(answer)
            code = 0 if isinstance(answer, str) or answer["ok"] else 2
            program.write_text(f"import sys\nprint({text!r})\nsys.exit({code})\n")
            verify_bundle.VERIFIERS[name] = [sys.executable, str(program)]

    def run_quietly(self, function, *args):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            return function(*args), out.getvalue()

    def vector(self, name, expect):
        folder = self.root / "vectors" / name
        folder.mkdir(parents=True)
        (folder / "expect.json").write_text(json.dumps(expect))
        (folder / "bundle.pef.zip").write_bytes(b"")

    def test_one_bundle(self):
        self.assertEqual(self.run_quietly(verify_bundle.one, "b.zip", None, "accepted")[0], 0)
        self.says(GOOD, BAD)
        code, out = self.run_quietly(verify_bundle.one, "b.zip", None, "accepted")
        self.assertEqual(code, 2)
        self.assertIn("javascript: refused: CHAIN_BROKEN", out)
        self.assertIn("disagree", out)

    def test_words_instead_of_json_fail(self):
        self.says(GOOD, "VERIFIED")
        self.assertEqual(self.run_quietly(verify_bundle.one, "b.zip", None, "accepted")[0], 2)

    def test_vectors_are_compared_with_what_they_say(self):
        self.vector("good", {"exit": 0, "reason": None, "verdicts": VERDICTS})
        self.vector("forged", {"exit": 2, "reason": "CHAIN_BROKEN"})
        code, out = self.run_quietly(verify_bundle.vectors, self.root / "vectors")
        self.assertEqual(code, 2)
        self.assertTrue(out.endswith("1 passed, 1 failed\n"), out)
        self.assertIn("forged: python: exit, reason differ from expect.json", out)

    def test_no_vectors_is_a_failure(self):
        self.assertEqual(self.run_quietly(verify_bundle.vectors, self.root / "none")[0], 2)


if __name__ == "__main__":
    unittest.main()
