"""The second implementation of spec/diff.md makes what the vectors say."""

import copy
import unittest

import diff_check


class Vectors(unittest.TestCase):
    def test_every_vector_is_made_by_this_program_too(self):
        vectors = diff_check.vectors()
        self.assertGreaterEqual(len(vectors), 15)
        for vector in vectors:
            with self.subTest(vector["name"]):
                made = diff_check.document(vector["kind"], vector["from"], vector["to"], vector["bodies"], vector["normalizers"])
                self.assertEqual(diff_check.canonical(made), diff_check.canonical(vector["document"]))

    def test_another_document_is_refused(self):
        vector = copy.deepcopy(diff_check.vectors()[1])
        self.assertTrue(diff_check.check(vector))
        vector["document"]["diff"]["counts"]["equal"] += 1
        self.assertFalse(diff_check.check(vector))

    def test_numbers_are_written_as_ecmascript_writes_them(self):
        cases = {1.0: "1", -0.0: "0", 1e21: "1e+21", 1e20: "100000000000000000000", 1e-6: "0.000001", 1e-7: "1e-7",
                 1.5e300: "1.5e+300", -12.25: "-12.25", 333333333.33333329: "333333333.3333333"}
        for value, text in cases.items():
            self.assertEqual(diff_check.number(value), text)


if __name__ == "__main__":
    unittest.main()
