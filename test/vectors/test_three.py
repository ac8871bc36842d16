"""The three verifiers give one answer: to every vector, and to evidence that was changed at random."""

import json
import os
import pathlib
import random
import shutil
import subprocess
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor

import mutate
import questions
import soup
import three
from test_vectors import VECTORS, expectation, folders

PROGRAM = three.PROGRAMS / "estoppel"
SEED = int(os.environ.get("PEF_SEED", "7"))
CASES = int(os.environ.get("PEF_CASES", "240"))


def setUpModule():
    if lacking := [str(program) for program in (PROGRAM, three.JUDGE, "node") if not shutil.which(program)]:
        if os.environ.get("REQUIRE_REAL") == "1":
            raise AssertionError(f"missing: {lacking}")
        raise unittest.SkipTest(f"missing: {lacking}")


def product(folder):
    """What the program `estoppel` says."""
    command = [PROGRAM, "verify", "--json", *three.words(folder)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    answer = json.loads(ran.stdout)
    answer = answer.get("data") or {"reason": answer["error"]["code"]}
    given = {name: (answer.get(name) or {}).get("verdict") for name in ("stream", "body")}
    return three.compared({**answer, **given, "exit": ran.returncode})


def sample():
    """Every accepted vector, and of the others one for each reason and form of input."""
    taken = {}
    for folder, expected in folders():
        form = three.question(folder)[0].name
        taken.setdefault((expected["reason"] or folder.name, form, "trust.json" in os.listdir(folder)), folder)
    return list(taken.values())


def only(answer):
    return {member: answer.get(member) for member in three.ANSWER}


class Agree(unittest.TestCase):
    def test_on_every_vector(self):
        asked = 0
        with three.Three() as verifiers:
            for folder, expected in folders():
                answers = verifiers.judge(folder)
                for name, answer in answers.items():
                    with self.subTest(folder.name, verifier=name):
                        asked += 1
                        self.assertEqual(only(answer), only(expected))
                with self.subTest(folder.name):
                    self.assertEqual(answers["python"], answers["javascript"])
                    self.assertEqual(answers["python"], answers["rust"])
        self.assertGreater(asked, 3 * 600)

    def test_the_program_says_what_the_library_says(self):
        asked = sample()
        self.assertGreater(len(asked), 60)
        with ThreadPoolExecutor(2) as pool:
            for folder, answer in zip(asked, pool.map(product, asked), strict=True):
                with self.subTest(folder.name):
                    self.assertEqual(only(answer), only(expectation(folder)))

    def test_what_cannot_be_read_is_no_verdict(self):
        with tempfile.TemporaryDirectory() as scratch, three.Three() as verifiers:
            for number, name in enumerate(("checkpoint", "trust.json")):
                folder = pathlib.Path(scratch) / str(number)
                shutil.copytree(VECTORS / "valid-journal-short", folder)
                (folder / "journal" / name).unlink()
                (folder / "journal" / name).mkdir()
                answers = verifiers.judge(folder)
                for answer in (answers["python"], answers["javascript"], product(folder)):
                    with self.subTest(name):
                        self.assertEqual((answer["exit"], answer["reason"]), (6, "FILE_UNREADABLE"))

    def test_on_evidence_that_was_changed_at_random(self):
        rng = random.Random(SEED)
        seen = self.ask(mutate.case(rng) for _ in range(CASES))
        self.assertGreater(len(seen), 12, f"the changes reach few steps: {seen}")

    def test_on_evidence_that_was_put_together_at_random(self):
        rng = random.Random(SEED)
        for name, make in soup.SOUPS.items():
            seen = self.ask((name, None, make(rng)) for _ in range(CASES // 6))
            self.assertGreater(len(seen), 2, f"{name} reaches few steps: {seen}")
            self.assertIn(None, seen, f"{name} is never accepted")

    def test_on_questions_about_events_that_were_put_together_at_random(self):
        rng = random.Random(SEED)
        seen = self.ask(("events", None, questions.about_events(rng)) for _ in range(CASES))
        self.assertGreater(len(seen), 8, f"the questions reach few steps: {seen}")
        self.assertIn(None, seen, "no event is ever proven")

    def ask(self, cases):
        """Asks for each (name, what was changed, files); how often each reason was the answer."""
        seen = {}
        with tempfile.TemporaryDirectory() as scratch, three.Three() as verifiers:
            for number, (name, said, files) in enumerate(cases):
                folder = pathlib.Path(scratch) / str(number)
                for path, data in files.items():
                    target = folder / path
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(data)
                answers = verifiers.judge(folder)
                first = answers["python"]
                with self.subTest(name, seed=SEED, number=number, change=said):
                    self.assertIn(first["exit"], (0, 2, 6))
                    self.assertEqual(first, answers["javascript"])
                    self.assertEqual(first, answers["rust"])
                seen[first["reason"]] = seen.get(first["reason"], 0) + 1
                shutil.rmtree(folder)
        return seen


if __name__ == "__main__":
    unittest.main()
