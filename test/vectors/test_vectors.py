"""The stored vectors are those that the generator makes, the lock is right, and the schemas agree."""

import base64
import io
import json
import os
import pathlib
import re
import struct
import sys
import unittest
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import make_vectors  # noqa: E402

VECTORS = make_vectors.VECTORS
SCHEMAS = VECTORS.parent / "schemas"
INPUTS = ("bundle.pef.zip", "bundle", "journal", "receipt.dsse.json")
VERDICTS = {
    "integrity": {"ok", "failed", "unchecked"},
    "authenticity": {"trusted", "self_asserted", "failed", "unchecked"},
    "completeness": {"complete", "open", "failed", "unchecked"},
    "anchoring": {"anchored", "absent", "failed", "unchecked"},
}

try:
    import jsonschema
except ImportError:
    jsonschema = None


def expectation(folder):
    corrected = folder / "expect-2.json"
    return json.loads((corrected if corrected.exists() else folder / "expect.json").read_bytes())


def folders(*, exit_code=None, reason=None):
    for folder in sorted(VECTORS.iterdir()):
        if (folder / "expect.json").exists():
            expected = expectation(folder)
            if exit_code in (None, expected["exit"]) and reason in (None, expected["reason"]):
                yield folder, expected


def bundle_files(folder):
    """The files of a bundle by path, of either form; none when there is no bundle."""
    packed, plain = folder / "bundle.pef.zip", folder / "bundle"
    if packed.exists():
        with zipfile.ZipFile(io.BytesIO(packed.read_bytes())) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    return {
        path.relative_to(plain).as_posix(): path.read_bytes() for path in plain.rglob("*") if path.is_file()
    }


def journal_lines(folder):
    """The lines of a journal, read as plainly as its format allows."""
    for segment in sorted((folder / "journal" / "segments").glob("*")):
        data, at = segment.read_bytes(), 256
        while at + 17 <= len(data) and (length := struct.unpack_from("<I", data, at)[0]):
            if data[at + 4] == 1:
                payload = data[at + 17 : at + 17 + length]
                yield payload[1 + payload[0] :]
            at += 17 + length


def lines(folder):
    """The lines of a vector, in order."""
    receipt = folder / "receipt.dsse.json"
    if receipt.exists():
        return [base64.b64decode(json.loads(receipt.read_bytes())["payload"])]
    if (folder / "journal").exists():
        return list(journal_lines(folder))
    return bundle_files(folder)["receipts.ndjson"].splitlines()


class Stored(unittest.TestCase):
    def test_the_generator_makes_what_is_stored(self):
        self.assertEqual(make_vectors.check(), [])

    def test_the_lock_lists_every_file_with_its_digest(self):
        files = make_vectors.on_disk(VECTORS)
        self.assertEqual(files.pop(make_vectors.LOCK), make_vectors.lock(files))

    def test_each_vector_has_one_input_and_a_whole_expectation(self):
        for folder, expected in folders():
            with self.subTest(folder.name):
                self.assertEqual(sum((folder / name).exists() for name in INPUTS), 1)
                ask = folder / "ask.json"
                asked = set()
                if ask.exists():
                    asked = {"body"} if "part" in json.loads(ask.read_bytes()) else {"stream", "unit"}
                self.assertEqual(set(expected), {"about", "exit", "reason", "seq", "index", "verdicts"} | asked)
                self.assertEqual(expected["exit"] == 0, expected["reason"] is None)
                self.assertEqual(folder.name.startswith("valid-"), expected["exit"] == 0)
                self.assertEqual(set(expected["verdicts"]), set(VERDICTS))
                for name, value in expected["verdicts"].items():
                    self.assertIn(value, VERDICTS[name])

    def test_the_files_stay_small(self):
        self.assertLess(sum(map(len, make_vectors.on_disk(VECTORS).values())), 10 * 2**20)

    def test_every_reason_of_the_specification_has_a_vector(self):
        text = (VECTORS.parent / "SPEC.md").read_text(encoding="utf-8")
        steps = text[text.index("## 11.") :]
        words = set(steps.split("`")[1::2])
        codes = {word for word in words if re.fullmatch(r"[A-Z]+(_[A-Z]+)+", word)}
        found = {expected["reason"] for _, expected in folders()}
        self.assertEqual(codes - found, set())
        self.assertEqual(found - codes - {None}, set())


class Schemas(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if jsonschema is None:
            if os.environ.get("REQUIRE_REAL") == "1":
                raise AssertionError("jsonschema is not installed")
            raise unittest.SkipTest("jsonschema is not installed")
        cls.schemas = {}
        for path in SCHEMAS.glob("*.schema.json"):
            cls.schemas[path.name.removesuffix(".schema.json")] = json.loads(path.read_bytes())
        cls.kinds = {kind["$ref"].removeprefix("#/$defs/") for kind in cls.schemas["journal_event"]["oneOf"]}

    def fits(self, name, document, definition=None):
        """Whether the document is valid; `$` of a pattern is the end of the text, which Python's is not."""
        schema = self.schemas[name]
        if definition is not None:
            schema = {"$defs": schema["$defs"], "$ref": f"#/$defs/{definition}"}
        schema = json.loads(json.dumps(schema).replace('$"', '\\\\Z"'))
        return jsonschema.Draft202012Validator(schema).is_valid(document)

    def line_fits(self, line):
        entry = json.loads(line)
        kind = entry.get("kind")
        if kind == "call":
            return self.fits("receipt", entry)
        return kind in self.kinds and self.fits("journal_event", entry, kind)

    def test_schemas_are_schemas(self):
        for schema in self.schemas.values():
            jsonschema.Draft202012Validator.check_schema(schema)

    def test_lines_of_valid_vectors_are_valid(self):
        seen = set()
        for folder, _ in folders(exit_code=0):
            for line in lines(folder):
                seen.add(json.loads(line)["kind"])
                with self.subTest(folder.name):
                    self.assertTrue(self.line_fits(line), line)
        self.assertEqual(seen, self.kinds | {"call"})

    def test_documents_of_valid_vectors_are_valid(self):
        for folder, _ in folders(exit_code=0):
            with self.subTest(folder.name):
                for path in (folder / "trust.json", folder / "journal" / "trust.json"):
                    if path.exists():
                        self.assertTrue(self.fits("trust", json.loads(path.read_bytes())))
                if (folder / "receipt.dsse.json").exists():
                    self.assertTrue(
                        self.fits("signature", json.loads((folder / "receipt.dsse.json").read_bytes()))
                    )
                elif files := bundle_files(folder):
                    self.assertTrue(self.fits("manifest", json.loads(files["manifest.json"])))
                    self.assertTrue(self.fits("signature", json.loads(files["manifest.dsse.json"])))

    def test_lines_that_a_schema_refuses(self):
        count = 0
        for folder, expected in folders(reason="LINE_SCHEMA"):
            found = lines(folder)
            position = 0 if len(found) == 1 else expected["index"] or expected["seq"]
            with self.subTest(folder.name):
                count += 1
                self.assertEqual(
                    [at for at, line in enumerate(found) if not self.line_fits(line)], [position]
                )
        self.assertGreater(count, 20)

    def test_documents_that_the_schemas_accept_and_refuse(self):
        for name in self.schemas:
            text = b"".join(path.read_bytes() for path in sorted((VECTORS / "schemas").glob(f"{name}*.ndjson")))
            found = {True: 0, False: 0}
            for row in map(json.loads, text.splitlines()):
                found[row["valid"]] += 1
                with self.subTest(name, about=row["about"]):
                    self.assertEqual(self.fits(name, row["document"]), row["valid"])
            self.assertGreaterEqual(found[True], 1, name)
            self.assertGreaterEqual(found[False], 12, name)

    def test_manifests_that_the_schema_refuses(self):
        refused = [folder for folder, _ in folders(reason="MANIFEST_SCHEMA")]
        self.assertGreater(len(refused), 5)
        for folder in refused:
            with self.subTest(folder.name):
                self.assertFalse(self.fits("manifest", json.loads(bundle_files(folder)["manifest.json"])))


if __name__ == "__main__":
    unittest.main()
