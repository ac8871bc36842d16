"""What a kit's Python verifier refuses, which `estoppel kit verify` refuses too: kits made here of the vectors of attestations."""

import base64
import contextlib
import copy
import io
import json
import os
import tempfile
import unittest
from unittest import mock

import fixture
import kit_cited
import kit_controls
import kit_oscal
import kit_page
import kit_verify
import pef_verify
from test_kit_cited import SPEC, event_id, ordered, payload, vectors

VECTORS = os.path.join(SPEC, "attestation-vectors")
SIGNER = fixture.EdSigner("auditor", "attestation")
KEY = {"alg": SIGNER.alg, "kid": SIGNER.kid, "spki": fixture.b64(SIGNER.spki)}
TOOL = {"digest": fixture.digest(b"tool"), "name": "test", "version": "1"}
NEEDS_TOML = unittest.skipUnless(kit_controls.tomllib, "frameworks are TOML, which this Python does not read")


def content(*path):
    with open(os.path.join(SPEC, *path), "rb") as file:
        return file.read()


def stated(envelope):
    return json.loads(base64.b64decode(json.loads(envelope)["payload"]))


def signed(statement, signer=SIGNER):
    return fixture.envelope(signer, kit_verify.TYPE, pef_verify.canonical(statement))


def page_of(predicate, digest):
    """What a page has to show, and something more."""
    words = ("pass", "fail", "not_assessed", "no_evidence") if predicate["framework"]["kind"] == "assessment" else ("evidence", "no_evidence")
    shown = ["made (when) \\", "statement", digest, predicate["bundles"][0]["root"]]
    shown += [text for word in words for text in (str(predicate["counts"].get(word, 0)), word.replace("_", " "))]
    return shown + [kit_page.CITED % predicate["id"], digest, "1 / 1"]


def page(shown):
    """A page that shows these texts."""
    lines = ["0.42 0.45 0.5 rg", "0 0 595 6 re", "f"]
    for text in shown:
        escaped = text.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")
        lines += ["BT", "/P 8 Tf", "48 26 Td", "(%s) Tj" % escaped, "ET"]
    return kit_page.written(b"(Attestation: a \\( \\) title)", ["\n".join(lines).encode()])


class Made:
    """The files of a kit with one attestation, whose parts can be changed before it is signed."""

    def __init__(self, vector="valid-assessment"):
        expect = json.loads(content("attestation-vectors", vector, "expect.json"))
        beside = {name: content("attestation-vectors", vector, expect[name]) for name in ("bundle", "framework", "trust")}
        self.statement = stated(content("attestation-vectors", vector, "attestation.json"))
        self.statement["predicate"]["key"] = dict(KEY)
        self.predicate, self.framework = self.statement["predicate"], beside["framework"]
        self.id, self.run = self.predicate["framework"]["id"], self.predicate["bundles"][0]["run"]
        self.bundle, self.further = "bundles/%s.pef.zip" % self.run, {}
        self.files = {self.bundle: beside["bundle"], "trust.json": beside["trust"]}
        self.signer = SIGNER
        self.page, self.results = page, lambda results: None

    def call(self):
        """The receipt of its call."""
        with tempfile.TemporaryDirectory() as folder:
            fixture.write_folder(os.path.join(folder, "x"), {"b": self.files[self.bundle]})
            lines = pef_verify.ZipBundle(os.path.join(folder, "x", "b")).read("receipts.ndjson").splitlines()
        return next(entry for entry in map(json.loads, lines) if entry["kind"] == "call")

    def result(self, change=lambda result: None):
        call = self.call()
        verdict = {"verdict": call["verdict"]["action"], "reason": call["verdict"].get("reason")}
        row = {"call": call["call"], "expected": dict(verdict, by="receipt", rule=call["policy"].get("rule"))}
        row.update(now=dict(verdict, score=0.5), seq=call["seq"], state="same")
        whole = {"calls": [row], "changed": 0, "checkpoints": "trusted", "policy_hash": fixture.digest(b"p"), "same": 1, "undecided": 0}
        change(whole)
        data = kit_cited.written(whole).encode()
        path = "regress/%s.json" % kit_verify.sha256(data)
        self.files[path] = data
        row = {name: whole[name] for name in ("changed", "checkpoints", "policy_hash", "same", "undecided")}
        self.further["regress"] = [dict(row, digest=kit_cited.sha256(data), path=path)]
        return self

    def ledger(self, change=lambda export: None):
        vector = next(one for one in vectors("ledger-release")["vectors"] if "code" not in one["expect"])
        events = ordered([json.loads(file["text"]) for file in vector["files"]])
        heads = sorted({event_id(event) for event in events} - {parent for event in events for parent in payload(event)["parents"]})
        head = kit_cited.sha256("".join(name + "\n" for name in heads).encode())
        export = {"events": events, "format": "estoppel-audit/1", "from": None, "genesis": vector["genesis"], "head": head}
        export.update(heads=heads, rows=[], to=None)
        change(export)
        self.files["ledger.json"] = kit_cited.written(export).encode() + b"\n"
        kinds = [payload(event)["kind"] for event in events]
        self.further["ledger"] = {"events": len(events), "genesis": vector["genesis"], "head": head, "heads": heads}
        self.further["releases"] = [{"count": kinds.count(kind), "kind": kind} for kind in sorted(set(kinds))]
        return self

    def signed(self):
        folder = "attestations/%s/" % self.id
        self.predicate["framework"]["digest"] = kit_cited.sha256(self.framework)
        attestation = signed(self.statement, self.signer)
        digest = kit_cited.sha256(attestation)
        files = dict(self.files)
        files["frameworks/%s.toml" % self.id] = self.framework
        files[folder + "attestation.json"] = attestation
        files[folder + "attestation.pdf"] = self.page(page_of(self.predicate, digest))
        results = kit_oscal.Copy(self.statement, digest).made()
        self.results(results)
        files[folder + "assessment-results.json"] = kit_cited.written(results).encode()
        counted = kit_verify.Counted()
        with tempfile.TemporaryDirectory() as place:
            fixture.write_folder(place, files)
            kit_verify.check_bundles(kit_verify.Folder(place), place, counted)
        row = {"counts": self.predicate["counts"], "digest": digest, "framework": self.id, "path": folder + "attestation.json"}
        summary = {"attestations": [row], "certificates": [], "counters": counted.counters, "inventory": counted.names()}
        summary.update({"regress": [], "runs": counted.rows, "trace": counted.trace()}, **self.further)
        subjects = [{"digest": {"sha256": kit_verify.sha256(files[name])}, "name": name} for name in sorted(files)]
        predicate = {"key": KEY, "summary": summary, "tool": TOOL, "v": "kit/v0"}
        index = {"_type": kit_verify.STATEMENT, "predicate": predicate, "predicateType": kit_verify.KIT, "subject": subjects}
        return dict(files, **{"kit.json": signed(index)})


def judged(files):
    """-> exit code, code"""
    with tempfile.TemporaryDirectory() as folder:
        fixture.write_folder(folder, files)
        return judged_at(folder)


def judged_at(path):
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        code = kit_verify.main([path])
    return code, told.getvalue().split(" ")[1].rstrip(":") if code else None


class Kits(unittest.TestCase):
    def refused(self, made, wanted):
        self.assertEqual(judged(made.signed()), wanted)

    def test_those_that_hold(self):
        for vector in ("valid-assessment", "valid-mapping"):
            with self.subTest(vector):
                self.assertEqual(judged(Made(vector).result().ledger().signed()), (0, None))
                with mock.patch.object(kit_controls, "tomllib", None):
                    self.assertEqual(judged(Made(vector).result().ledger().signed()), (0, None))

    def changed(self, cases, code):
        for what, change in cases.items():
            with self.subTest(what):
                made = Made()
                change(made)
                self.refused(made, (2, code))

    def test_an_attestation_that_says_more_or_other_than_follows(self):
        by_schema = {
            "a conclusion": lambda made: made.predicate.update(conclusion="fully compliant"),
            "a member at the top": lambda made: made.statement.update(extra="x"),
            "a subject twice": lambda made: made.statement.update(subject=made.statement["subject"] * 2),
            "another clock": lambda made: made.predicate.update(clock="atomic"),
            "another version": lambda made: made.predicate.update(v="attestation/v9"),
            "another kind": lambda made: made.predicate["framework"].update(kind="mapping"),
            "true for a count of bundles": lambda made: made.predicate["bundles"][0]["counters"].update(calls=True),
            "false for a count of bundles": lambda made: made.predicate["bundles"][0]["counters"].update(hold=False),
            "true for a count of controls": lambda made: made.predicate["counts"].update({"pass": True}),
            "true for a count of evidence": lambda made: made.predicate["evidence"][0].update(count=True),
            "false for more of it": lambda made: made.predicate["evidence"][0].update(more=False),
            "custodians of nothing": lambda made: made.predicate.update(custodians=[KEY]),
        }
        self.changed(by_schema, "ATTESTATION_MISMATCH")
        with mock.patch.object(kit_controls, "tomllib", None):
            self.changed(by_schema, "ATTESTATION_MISMATCH")

    @NEEDS_TOML
    def test_an_attestation_that_says_other_of_its_framework(self):
        stated = lambda **members: lambda made: made.predicate["framework"].update(members)
        cases = {
            "title": stated(title="CERTIFIED COMPLIANT"),
            "edition": stated(edition="9"),
            "source": stated(source="elsewhere"),
            "applies": stated(applies=[{"from": "2020-01-01", "what": "everybody"}]),
            "words of a control": lambda made: made.predicate["controls"][0].update(about="All is well"),
        }
        self.changed(cases, "ATTESTATION_MISMATCH")

    def test_an_attestation_that_does_not_say_its_id_time_and_program(self):
        cases = {
            name + " " + str(value): lambda made, name=name, value=value: made.predicate.update({name: value})
            for name, value in [
                ("id", "not-a-uuid"),
                ("id", True),
                ("made", "2026-02-30T00:00:00.000000Z"),
                ("made", "2032-02-20T00:00:60.000000Z"),
                ("made", "0000-02-20T00:00:00.000000Z"),
                ("made", "1969-02-20T00:00:00.000000Z"),
                ("made", ["2032-02-20T00:00:00.000000Z"]),
                ("tool", dict(TOOL, more="x")),
                ("tool", dict(TOOL, version=True)),
            ]
        }
        self.changed(cases, "ATTESTATION_FORM")

    def test_pages_that_are_not_of_their_statement(self):
        other = "sha256:" + "0" * 64
        exchanged = lambda old, new: lambda made: setattr(made, "page", lambda shown: page([new if text == old else text for text in shown]))
        bytes_of = lambda change: lambda made: setattr(made, "page", lambda shown: change(page(shown)))

        def last(made):
            made.page = lambda shown: page([other if at == len(shown) - 2 else text for at, text in enumerate(shown)])

        def again(shown):
            return kit_page.written(b"(t)", [b"BT", *kit_page.contents(page(shown))])

        cases = {
            "nothing": lambda made: setattr(made, "page", lambda shown: b""),
            "the digest alone": lambda made: setattr(made, "page", lambda shown: shown[2].encode()),
            "another digest at the foot": last,
            "a digest more": lambda made: setattr(made, "page", lambda shown: page(shown + ["copy " + other])),
            "another number": exchanged("no evidence", "fail"),
            "more that pass": exchanged("0", "9"),
            "a failed verification that there is not": lambda made: setattr(made, "page", lambda shown: page(shown + ["VERIFICATION FAILED"])),
            "a page without a foot": lambda made: setattr(made, "page", again),
            "something after its end": bytes_of(lambda data: data + b"\n8 0 obj\n<<>>\nendobj\n"),
            "something before its beginning": bytes_of(lambda data: b"\n" + data),
            "a form": bytes_of(lambda data: data.replace(b"/Lang (en)", b"/AcroForm 9 0 R", 1)),
            "another content": bytes_of(lambda data: data.replace(b"/Contents 8 0 R", b"/Contents 6 0 R", 1)),
            "a title with more behind it": bytes_of(lambda data: data.replace(b" title)", b" title) /Metadata (x)", 1)),
            "an image": bytes_of(lambda data: data.replace(b"0 0 595 6 re", b"/Image 1 Do ", 1)),
        }
        for what, change in cases.items():
            with self.subTest(what):
                made = Made()
                change(made)
                self.refused(made, (2, "ATTESTATION_COPY"))

    def test_oscal_copies_that_are_not_of_their_statement(self):
        result = lambda results: results["assessment-results"]["results"][0]
        resource = lambda results: results["assessment-results"]["back-matter"]["resources"][0]
        cases = {
            "another digest": lambda results: resource(results)["rlinks"][0]["hashes"][0].update(value="0" * 64),
            "a finding raised": lambda results: result(results)["findings"][0]["target"]["status"].update(state="satisfied"),
            "a finding left out": lambda results: result(results)["findings"].pop(),
            "another state": lambda results: result(results)["observations"][0]["props"][2].update(value="pass!"),
            "another time": lambda results: result(results).update(start="2020-01-01T00:00:00.000000Z"),
            "a remark": lambda results: result(results).update(remarks="fully compliant"),
        }
        for what, change in cases.items():
            with self.subTest(what):
                made = Made()
                made.results = change
                self.refused(made, (2, "ATTESTATION_COPY"))

    def test_an_attestation_by_a_key_of_its_evidence(self):
        made = Made()
        made.signer = fixture.MANIFEST_KEY
        made.predicate["key"] = {"alg": made.signer.alg, "kid": made.signer.kid, "spki": fixture.b64(made.signer.spki)}
        with mock.patch.object(kit_verify.Counted, "bundle", with_key(made.signer.kid)):
            self.refused(made, (6, "KEY_INVALID"))

    @NEEDS_TOML
    def test_a_name_of_many_parts_is_refused_before_it_is_read(self):
        with mock.patch.object(kit_controls.tomllib, "loads", side_effect=AssertionError("it is read")):
            for data in (b"a." * 30000 + b"b = 1", (b"a." * 400 + b"b = 1\n") * 1000):
                self.assertRaisesRegex(ValueError, "dots", kit_controls.framework, data)

    @NEEDS_TOML
    def test_a_framework_may_begin_with_a_byte_order_mark(self):
        made = Made()
        made.framework = b"\xef\xbb\xbf" + made.framework
        self.refused(made, (0, None))

    def test_a_kit_without_bundles(self):
        made = Made()
        files = made.signed()
        del files[made.bundle]
        index = stated(files["kit.json"])
        index["subject"] = [subject for subject in index["subject"] if subject["name"] != made.bundle]
        self.assertEqual(judged(dict(files, **{"kit.json": signed(index)})), (6, "ATTESTATION_EMPTY"))

    @NEEDS_TOML
    def test_frameworks_that_cannot_be_used(self):
        good = Made().framework
        twice = good[good.index(b"[[control]]") :]
        for what, data in {
            "not UTF-8": b"\xff\xfe",
            "nested deeply": b"a=" + b"[" * 20000,
            "not TOML": b"= 1",
            "a name of many parts": good.replace(b"title =", b"a." * 30000 + b"b = 1\ntitle =", 1),
            "a number with many digits": b"a=" + b"9" * 10000,
            "a member more": good.replace(b"title =", b'more = "x"\ntitle =', 1),
            "a time for a text": good.replace(b"edition = ", b"edition = 2026-01-01 # ", 1),
            "a control twice": good + b"\n" + twice,
            "a blank title": b'title = "  "\n' + b"\n".join(line for line in good.split(b"\n") if not line.startswith(b"title")),
        }.items():
            with self.subTest(what):
                made = Made()
                made.framework = data
                self.refused(made, (6, "FRAMEWORK_INVALID"))
        made = Made()
        made.framework = good + b"#" * (1 << 20)
        self.refused(made, (6, "ATTESTATION_LIMIT"))
        made.framework, made.id = good, "other"
        self.refused(made, (2, "KIT_ALTERED"))

    def test_exports_that_have_another_form(self):
        for what, change in {
            "a member more": lambda export: export.update(compliance="ok"),
            "a member less": lambda export: export.pop("to"),
            "a text for rows": lambda export: export.update(rows="x"),
            "a row with nothing": lambda export: export.update(rows=[{}]),
            "a number for the span": lambda export: export.update({"from": 0}),
        }.items():
            with self.subTest(what):
                self.refused(Made().ledger(change), (2, "AUDIT_ALTERED"))

    def test_results_with_other_numbers(self):
        rows = lambda **members: lambda result: result["calls"][0].update(members)

        def as_true(result):
            expected, now = result["calls"][0]["expected"], result["calls"][0]["now"]
            expected.update(by="author", verdict=1)
            now.update(verdict=True)

        for what, change in {
            "true for a place": rows(seq=True),
            "true for a verdict": as_true,
            "true for a count": lambda result: result.update(same=True),
            "another count": lambda result: result.update(same=2),
            "more than 16 MiB": lambda result: result.update(of="x" * (16 << 20)),
        }.items():
            with self.subTest(what):
                made = Made()
                call = made.call()
                self.assertEqual(call["seq"], 1, "as true is 1")
                self.refused(made.result(change), (2, "KIT_RESULT"))

    def test_a_number_that_python_writes_and_rfc_8785_does_not(self):
        whole = json.dumps
        with mock.patch.object(kit_cited, "written", lambda value: whole(value, separators=(",", ":"), sort_keys=True)):
            made = Made().result(lambda result: result["calls"][0].update(of=2**60))
        self.refused(made, (2, "KIT_RESULT"))

    def test_numbers_in_a_form_that_is_not_canonical(self):
        for wrong in (b"1152921504606846976", b"1.0", b"5e-1", b"-0", b"1e400", b"9" * 5000, b"[" * 129 + b"]" * 129, b"[" * 90000):
            with self.subTest(wrong[:20]):
                with self.assertRaises(kit_cited.Wrong):
                    kit_cited.foreign(b'{"x":%s}' % wrong, "KIT_RESULT", "it")
        for right in (b"0.5", b"1e+21", b"1e-7", b"0.000001", b"123456789.25", b"-1.5e-9", b"100000000000000000000", b"1152921504606847000"):
            with self.subTest(right):
                kit_cited.foreign(b'{"x":%s}' % right, "KIT_RESULT", "it")

    def test_names_of_archives(self):
        for case in vectors("kit")["archives"]:
            with self.subTest(case["names"]), tempfile.TemporaryDirectory() as folder:
                path = os.path.join(folder, "kit.zip")
                with open(path, "wb") as file:
                    file.write(fixture.zip_bytes([(name, b"x") for name in case["names"]]))
                # What has no kit.json is no kit, which is said after names are looked at.
                wanted = (2, case["code"] or "KIT_MISSING")
                self.assertEqual(judged_at(path), wanted)

    def test_no_name_is_looked_for_in_a_list(self):
        class Names(list):
            def __contains__(self, name):
                raise AssertionError("%s is looked for from the first to the last" % name)

        files = Made().result().ledger().signed()
        with tempfile.TemporaryDirectory() as folder:
            fixture.write_folder(folder, files)
            kit = kit_verify.Folder(folder)
            kit.names = Names(kit.names)
            self.assertEqual(kit_verify.check(kit, folder, None, None)[1], SIGNER.kid)

    def test_control_characters_of_a_name_do_not_reach_the_terminal(self):
        files = dict(copy.copy(Made().signed()), **{"\x1b[2Jx": b""})
        with tempfile.TemporaryDirectory() as folder:
            fixture.write_folder(folder, files)
            told = io.StringIO()
            with contextlib.redirect_stdout(told):
                self.assertEqual(kit_verify.main([folder]), 2)
            self.assertNotIn("\x1b", told.getvalue())
            self.assertIn("KIT_UNDECLARED", told.getvalue())


def with_key(kid):
    """Bundles of the vectors are signed by keys that nobody has here: as if this were one of them."""
    bundle = kit_verify.Counted.bundle

    def counted(self, *given):
        run = bundle(self, *given)
        self.keys.add(kid)
        return run

    return counted


if __name__ == "__main__":
    unittest.main()
