"""python3 -m unittest discover -s spec/verifiers/python    (PEF_FULL=1 sweeps every byte)"""

import contextlib
import hashlib
import io
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest
import zlib

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import fixture as fx  # noqa: E402
import pef_verify as pef  # noqa: E402

VECTORS = HERE.parent.parent / "pef" / "vectors"
FULL = os.environ.get("PEF_FULL") == "1"
PROGRAM = str(HERE / "pef_verify.py")


def verdicts(integrity="unchecked", authenticity="unchecked", completeness="unchecked", anchoring="unchecked"):
    return dict(integrity=integrity, authenticity=authenticity, completeness=completeness, anchoring=anchoring)


class Folder(unittest.TestCase):
    """A scratch folder per test."""

    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="pef-")
        self.addCleanup(shutil.rmtree, self.dir)

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, name, data):
        with open(self.path(name), "wb") as file:
            file.write(data)
        return self.path(name)

    def refused(self, answer, code, seq=None, index=None):
        self.assertEqual((answer["reason"], answer["seq"], answer["index"]), (code, seq, index), answer["detail"])
        self.assertEqual(answer["exit"], 2)
        self.assertFalse(answer["ok"])
        failed = [value for value in answer["verdicts"].values() if value in ("failed", "open")]
        self.assertEqual(len(failed), 1)


# --- the published vectors --------------------------------------------------------------------


class Vectors(unittest.TestCase):
    def test_every_vector_gives_the_expected_answer(self):
        folders = sorted(p.parent for p in VECTORS.glob("*/expect.json"))
        if not folders:
            self.skipTest("no vectors are published yet")
        for folder in folders:
            with self.subTest(vector=folder.name):
                self.check(folder)

    def check(self, folder):
        corrected = folder / "expect-2.json"
        expected = json.loads((corrected if corrected.exists() else folder / "expect.json").read_text("utf-8"))
        subjects = [folder / n for n in ("bundle.pef.zip", "bundle", "journal", "receipt.dsse.json")]
        subjects = [p for p in subjects if p.exists()]
        self.assertTrue(subjects, "there is nothing to verify")
        beside = {"trust": folder / "trust.json", "key": folder / "key.pem", "against": folder / "against"}
        beside |= {"disclosure": folder / "disclosure.json", "events": folder / "events"}
        beside |= {"content": folder / "content"}
        given = {name: str(path) for name, path in beside.items() if path.exists()}
        if (folder / "ask.json").exists():
            asked = json.loads((folder / "ask.json").read_text("utf-8"))
            if "part" in asked:
                given |= {"body": asked["call"], "part": asked["part"]}
            else:
                given |= {"stream": asked["call"], "place": asked.get("place")}
        for subject in subjects:
            answer = pef.verify_path(str(subject), **given)
            got = dict(answer, reason=answer["reason"] or "OK")
            wanted = dict(expected)
            if "reason" in wanted:
                wanted["reason"] = wanted["reason"] or "OK"
            names = [n for n in ("exit", "reason", "seq", "index", "verdicts", "stream", "unit", "body") if n in wanted]
            self.assertEqual({n: got[n] for n in names}, {n: wanted[n] for n in names}, answer["detail"])


# --- section 1 --------------------------------------------------------------------------------


class Json(unittest.TestCase):
    def test_admitted_documents_keep_their_values(self):
        for text, value in {
            "{}": {},
            ' {"a" : [ 1 , -2,0 ] }\r\n\t': {"a": [1, -2, 0]},
            '{"a":"\\u20AC\\/\\ud83d\\ude00"}': {"a": "\u20ac/\U0001f600"},
            '{"a":true,"b":false}': {"a": True, "b": False},
            '{"a":9007199254740991,"b":-9007199254740991}': {"a": 2**53 - 1, "b": 1 - 2**53},
            '{"":"\ufeff\x7f"}': {"": "\ufeff\x7f"},
        }.items():
            self.assertEqual(pef.admit(text.encode("utf-8")), value)

    def test_depth_32_is_admitted_and_33_is_not(self):
        def nested(depth):
            return b'{"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"

        pef.admit(nested(32))
        for depth in (33, 200000):
            self.assertRaises(pef.Malformed, pef.admit, nested(depth))

    def test_everything_else_is_malformed(self):
        texts = [
            "", " ", "[]", "1", '"a"', "{", "}", '{"a"}', '{"a":}', '{"a":1,}', '{,"a":1}', "{a:1}", '{"a":1}{}', '{"a":1}x',
            '{"a":null}', '{"a":1.0}', '{"a":1e3}', '{"a":1E3}', '{"a":-0}', '{"a":01}', '{"a":+1}', '{"a":-}', '{"a":.5}',
            '{"a":9007199254740992}', '{"a":-9007199254740992}', '{"a":%s}' % ("9" * 5000), '{"a":NaN}', '{"a":Infinity}',
            '{"a":tru}', '{"a":True}', '{"a":1,"a":2}', '{"a":1,"\\u0061":2}', '{"a":[1,]}', '{"a":[1 2]}', '{"a":[',
            '{"a":"', '{"a":"\\"}', '{"a":"\\x"}', '{"a":"\\u12"}', '{"a":"\\u 123"}', '{"a":"\\u+123"}', '{"a":"\n"}',
            '{"a":"\x00"}', '{"a":"\\ud800"}', '{"a":"\\udc00"}', '{"a":"\\udc00\\ud800"}', '{"a":"\\ud800x"}',
            '{"a":"\\ud800\\u0041"}', '{"a":"\\ufffe"}', '{"a":"\\ufdd0"}', '{"a":"\\ud83f\\udfff"}', '{"a":"\uffff"}',
            '{"a":"\U0010fffe"}', '{"\ufdef":1}', "{'a':1}", '{"a":1}\x0b', '{"a":1}\xa0', '\ufeff{}', '{"a":\u0661}',
        ]  # fmt: skip
        for text in texts:
            with self.subTest(text=text[:40]):
                self.assertRaises(pef.Malformed, pef.admit, text.encode("utf-8"))
        for raw in (b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xff", b"\xe2\x82"):
            with self.subTest(raw=raw):
                self.assertRaises(pef.Malformed, pef.admit, b'{"a":"' + raw + b'"}')

    def test_rfc_8785_strings_and_sorting(self):
        # section 3.2.2 (its strings) and 3.2.3
        text = '{"string":"\\u20ac$\\u000F\\u000aA\'\\u0042\\u0022\\u005c\\\\\\"\\/","literals":[true,false]}'
        self.assertEqual(
            pef.canonical(pef.admit(text.encode())),
            b'{"literals":[true,false],"string":"\xe2\x82\xac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}',
        )
        names = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\x80", "\u00f6"]
        order = ["\r", "1", "\x80", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]
        self.assertEqual(list(pef.admit(pef.canonical(dict.fromkeys(names, 1)))), order)

    def test_canonical_escapes(self):
        text = "".join(map(chr, range(32))) + '"\\/\x7f\u2028'
        wanted = (
            '{"a":"\\u0000\\u0001\\u0002\\u0003\\u0004\\u0005\\u0006\\u0007\\b\\t\\n\\u000b\\f\\r\\u000e\\u000f'
            + "".join("\\u%04x" % c for c in range(16, 32))
            + '\\"\\\\/\x7f\u2028"}'
        )
        self.assertEqual(pef.canonical({"a": text}), wanted.encode("utf-8"))

    def test_base64_is_strict(self):
        self.assertEqual([pef.unbase64(t) for t in ("", "AA==", "AAA=", "AAAA")], [b"", b"\0", b"\0\0", b"\0\0\0"])
        for text in ("A", "AA", "AA=", "AB==", "AAB=", "AA==\n", "A A==", "AA-_", "AAAA====", "=", "AA==AA==", "\u00e9AAA"):
            self.assertIsNone(pef.unbase64(text), text)


class Schemas(unittest.TestCase):
    def error(self, schema, value):
        return pef.Schema(dict(schema, **{"$defs": {"n": {"type": "integer", "minimum": 1}}})).error(value)

    def test_each_keyword_accepts_and_refuses(self):
        for schema, good, bad in (
            ({"type": "integer"}, 1, True),
            ({"type": "boolean"}, False, 0),
            ({"type": "string"}, "", 0),
            ({"const": 0}, 0, False),
            ({"const": "a"}, "a", "b"),
            ({"enum": ["1", "2"]}, "2", "3"),
            ({"pattern": "^[a-z]{2}$"}, "ab", "ab\n"),
            ({"pattern": "^\\.x*$"}, ".xx", "axx"),
            ({"minLength": 1}, "\U0001f600", ""),
            ({"maxLength": 1}, "\U0001f600", "ab"),
            ({"minimum": 1}, 1, 0),
            ({"maximum": 1}, 1, 2),
            ({"minItems": 1}, [1], []),
            ({"maxItems": 1}, [1], [1, 2]),
            ({"uniqueItems": True}, [1, True, "1"], [1, 2, 1]),
            ({"items": {"$ref": "#/$defs/n"}}, [1, 2], [1, 0]),
            ({"required": ["a"]}, {"a": 1}, {}),
            ({"properties": {"a": {"$ref": "#/$defs/n"}}}, {"b": 0}, {"a": 0}),
            ({"properties": {"a": {}}, "additionalProperties": False}, {"a": 1}, {"b": 1}),
            ({"additionalProperties": {"type": "string"}}, {"a": ""}, {"a": 1}),
        ):
            with self.subTest(schema=schema):
                self.assertIsNone(self.error(schema, good))
                self.assertIsNotNone(self.error(schema, bad))

    def test_words_outside_the_subset_are_not_ignored(self):
        self.assertRaises(AttributeError, pef.Schema, {"anyOf": []})

    def test_all_schemas_of_the_format_load(self):
        schemas = pef.find_schemas()
        self.assertEqual(len(schemas.journal_event.kinds), 13)
        for kind in ("iss", "hold", "", None, 1, ["call"]):
            self.assertIsNotNone(schemas.entry_error({"kind": kind}))


# --- curves, trees, notes ---------------------------------------------------------------------


class Curves(unittest.TestCase):
    RFC_8032 = (
        (
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
            "d25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c"
            "387b2eaeb4302aeeb00d291612bb0c00",
        ),
        (
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659"
            "4a7c15e9716ed28dc027beceea1ec40a",
        ),
        (
            "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd"
            "454d4423643ce80e2a9ac94fa54ca49f",
            "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e030"
            "3dca179c138ac17ad9bef1177331a704",
        ),
    )  # fmt: skip

    def test_rfc_8032_samples(self):
        for key, message, signature in self.RFC_8032:
            key, message, signature = (bytes.fromhex(t) for t in (key, message, signature))
            self.assertTrue(pef.Ed25519(key).verify(signature, [message]))
            self.assertFalse(pef.Ed25519(key).verify(signature, [message, b"x"]))
            for at in range(0, 64, 7):
                changed = signature[:at] + bytes([signature[at] ^ 1]) + signature[at + 1 :]
                self.assertFalse(pef.Ed25519(key).verify(changed, [message]))
            self.assertFalse(pef.Ed25519(key).verify(signature[:63], [message]))
            s = int.from_bytes(signature[32:], "little") + pef._L
            self.assertFalse(pef.Ed25519(key).verify(signature[:32] + s.to_bytes(32, "little"), [message]))

    def small_order_points(self):
        """All eight, from a point that has a torsion part."""
        y, out = 2, {}
        while len(out) < 8:
            point = pef._ed_decode(y.to_bytes(32, "little"))
            y += 1
            if point:
                torsion = pef._ed_sum(pef._IDENTITY, pef._ed_table(point), pef._L)
                multiple = pef._IDENTITY
                for _ in range(8):
                    multiple = pef._ed_add(multiple, torsion)
                    out[pef._ed_encode(multiple)] = multiple
        return out

    def test_small_order_keys_and_nonces_are_refused(self):
        points = self.small_order_points()
        self.assertEqual(len(points), 8)
        for encoded in points:
            # R of small order and S = 0 would satisfy the equation for A of small order
            for other in points:
                for message in (b"a", b"b", b"c"):
                    self.assertFalse(pef.Ed25519(encoded).verify(other + bytes(32), [message]))
        signer = fx.EdSigner("any", "receipt")
        for encoded in points:
            k = int.from_bytes(hashlib.sha512(encoded + signer.raw + b"m").digest(), "little")
            s = k * signer.scalar % pef._L  # right for R = identity
            self.assertFalse(pef.Ed25519(signer.raw).verify(encoded + s.to_bytes(32, "little"), [b"m"]))

    def test_encodings_must_be_canonical(self):
        p = pef._P
        for y in (p, p + 1, p + 3, p + 18, 2**255 - 1):
            self.assertIsNone(pef._ed_decode(y.to_bytes(32, "little")))
        self.assertIsNone(pef._ed_decode((1 | 1 << 255).to_bytes(32, "little")))  # x = 0 with a sign
        self.assertEqual(pef._ed_decode((1).to_bytes(32, "little")), (0, 1))

    RFC_6979_KEY = (
        0x60FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB6,
        0x7903FE1008B8BC99A41AE9E95628BC64F2F1B20C2D7E9F5177A3C294D4462299,
    )
    RFC_6979 = (
        (b"sample", "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716"
                    "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8"),
        (b"test", "f1abb023518351cd71d881567b1ea663ed3efcf6c5132b354f28d3b0b7d38367"
                  "019f4113742a2b14bd25926b49c649155f267e60d3814b4c0cc84250e46f0083"),
    )  # fmt: skip

    def test_rfc_6979_samples_on_p256(self):
        key = pef.P256Key(*self.RFC_6979_KEY)
        for message, signature in self.RFC_6979:
            raw = bytes.fromhex(signature)
            self.assertTrue(key.verify(raw, [message]))
            low_or_high = (pef._N - int.from_bytes(raw[32:], "big")).to_bytes(32, "big")
            self.assertTrue(key.verify(raw[:32] + low_or_high, [message]))
            self.assertFalse(key.verify(raw, [message + b"x"]))
            self.assertEqual(pef._der_signature(fx.der(raw)), raw)
            n = pef._N.to_bytes(32, "big")
            for bad in (raw[:32] + bytes(32), bytes(32) + raw[32:], raw[:32] + n, n + raw[32:], raw[:63], raw + b"\0"):
                self.assertFalse(key.verify(bad, [message]))

    def test_points_off_the_curve_verify_nothing(self):
        x, y = self.RFC_6979_KEY
        raw = bytes.fromhex(self.RFC_6979[0][1])
        for point in ((x, y + 1), (x + pef._Q, y), (0, 0)):
            self.assertFalse(pef.P256Key(*point).verify(raw, [b"sample"]))

    def test_only_der_is_der(self):
        good = fx.der(bytes.fromhex(self.RFC_6979[0][1]))
        half = bytes.fromhex("022100") + b"\xef" * 32
        for bad in (
            b"", good[:-1], good + b"\0", b"\x31" + good[1:], good[:1] + b"\x81" + good[1:],
            bytes.fromhex("3006020100020001"), bytes.fromhex("30070202000102017f"), bytes.fromhex("3006020181020101"),
            bytes.fromhex("30060200020201ff"), b"\x30\x46" + half + bytes.fromhex("02210100") + b"\0" * 31,
            bytes.fromhex("3009020101020101020101"), bytes.fromhex("3003020101"),
        ):  # fmt: skip
            self.assertIsNone(pef._der_signature(bad), bad.hex())


class Trees(unittest.TestCase):
    # the leaves and roots of the Certificate Transparency reference implementation (RFC 6962)
    LEAVES = [bytes.fromhex(t) for t in (
        "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
    )]  # fmt: skip
    ROOTS = (
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    )

    def test_rfc_6962_roots(self):
        leaves = [pef.leaf_hash(leaf) for leaf in self.LEAVES]
        self.assertEqual([pef.tree_root(leaves[:n]).hex() for n in range(9)], list(self.ROOTS))

    def test_inclusion_paths_of_every_leaf_of_every_small_tree(self):
        leaves = [pef.leaf_hash(b"%d" % i) for i in range(20)]
        for size in range(1, 21):
            root = pef.tree_root(leaves[:size])
            for index in range(size):
                path = fx.inclusion(leaves[:size], index)
                self.assertEqual(pef.root_from_path(index, size, leaves[index], path), root)
                self.assertNotEqual(pef.root_from_path(index, size, leaves[index], path + [root]), root)
                self.assertNotEqual(pef.root_from_path(index + size, size, leaves[index], path), root)
                if path:
                    self.assertNotEqual(pef.root_from_path(index, size, leaves[index], path[1:]), root)
                    self.assertNotEqual(pef.root_from_path(index, size, leaves[index], path[:-1]), root)

    def test_blocks_of_a_tree_stand_for_their_leaves(self):
        leaves = [pef.leaf_hash(b"%d" % i) for i in range(13)]
        for level in range(5):
            blocks = [pef.tree_root(leaves[i : i + 2**level]) for i in range(0, 13, 2**level)]
            self.assertEqual(pef.tree_root(blocks), pef.tree_root(leaves))


class Notes(unittest.TestCase):
    def test_a_note_and_its_malformed_neighbours(self):
        good = fx.note(fx.CHECKPOINT_KEY, fx.ISS, 3, b"r" * 32)
        note = pef.Note(good)
        self.assertEqual((note.origin, note.size, note.root, note.name), (fx.ISS, 3, b"r" * 32, fx.ISS))
        text, signature = good.split(b"\n\n")
        for bad in (
            b"", good[:-1], good + b"\n", text + b"\n" + signature, text + b"\nmore\n\n" + signature,
            good + signature, good.replace(b"\n3\n", b"\n03\n"), good.replace(b"\n3\n", b"\n-3\n"),
            good.replace(b"\n3\n", b"\n18446744073709551616\n"), good.replace(b"\n3\n", b"\n\n"),
            good.replace(b"\n", b"\r\n"), good.replace("\u2014".encode(), b"-"), good.replace("\u2014 ".encode(), b""),
            good[:-5] + b"\n", good.replace(fx.ISS.encode(), b""), b"\xff" + good, text + b"\n\n" + signature[:-8] + b"\n",
        ):  # fmt: skip
            self.assertRaises(pef.Malformed, pef.Note, bad)
        self.assertEqual(pef.Note(good.replace(b"\n3\n", b"\n18446744073709551615\n")).size, 2**64 - 1)



# --- section 11 -------------------------------------------------------------------------------


class BundleTest(Folder):
    def zip(self, files, trust=None, name="b.pef.zip"):
        data = files if isinstance(files, bytes) else fx.zip_bytes(files)
        return pef.verify_path(self.write(name, data), trust)

    def both(self, files, trust=None, beside=None):
        """As ZIP and as directory: the answers must be the same."""
        answer = self.zip(files, trust)
        folder = self.path("b")
        shutil.rmtree(folder, ignore_errors=True)
        fx.write_folder(folder, files)
        other = pef.verify_path(folder, trust)
        self.assertEqual({k: other[k] for k in other if k != "detail"}, {k: answer[k] for k in answer if k != "detail"})
        return answer

    def lines(self, run):
        """The entries of `run` in the place of those of a small bundle."""
        files = fx.small_bundle(run.sign).close()
        files["receipts.ndjson"] = b"".join(line + b"\n" for line in run.lines)
        if run.sign == "each":
            files["receipts.sig"] = b"".join(run.signatures)
        return self.both(files)


class GoodBundles(BundleTest):
    def test_small_bundles(self):
        for sign in ("each", "checkpoint"):
            files = fx.small_bundle(sign).close()
            self.assertEqual("receipts.sig" in files, sign == "each")
            answer = self.both(files)
            self.assertEqual(answer["exit"], 0, answer["detail"])
            self.assertEqual(answer["verdicts"], verdicts("ok", "self_asserted", "complete", "absent"))
            self.assertEqual((answer["run"], answer["entries"], answer["kind"]), (fx.RUN, 3, "bundle"))
            answer = self.both(files, fx.trust_document())
            self.assertEqual(answer["verdicts"], verdicts("ok", "trusted", "complete", "absent"))

    def test_one_of_everything(self):
        files = fx.large_bundle().close()
        for name in ("b.pef.zip.d", "b.d"):
            fx.write_folder(self.path(name), {fx.digest(fx.FAR_BODY)[7:]: fx.FAR_BODY})
        answer = self.both(files, fx.trust_document())
        self.assertEqual(answer["exit"], 0, answer["detail"])
        self.assertEqual(answer["verdicts"], verdicts("ok", "trusted", "complete", "anchored"))
        # the key that a rotation brought in need not be in the trust document
        first = [s for s in fx.KEYS if s is not fx.NEXT_KEY]
        self.assertEqual(self.both(files, fx.trust_document(first))["exit"], 0)

    def test_a_run_without_calls_has_no_metrics(self):
        run = fx.RunWriter()
        run.open()
        run.seal()
        bundle = fx.BundleWriter(run).entry_files()
        manifest = bundle.manifest()
        self.assertNotIn("metrics", manifest)
        self.assertEqual(self.both(bundle.close())["exit"], 0)
        for metrics in ({}, {"snapshot_lag_bytes_max": 3}, {"total_p50_us": 0}):
            self.refused(self.both(bundle.close(dict(manifest, metrics=metrics))), "MANIFEST_MISMATCH")

    def test_claims_keep_the_sixteen_smallest(self):
        run = fx.RunWriter()
        run.open()
        for i in range(18):
            run.call(claims={"agent": "\uffee" if i == 0 else "%02d" % i})
        run.seal()
        bundle = fx.BundleWriter(run).entry_files()
        self.assertEqual(bundle.manifest()["claims"]["agent"], ["%02d" % i for i in range(1, 17)])
        self.assertEqual(self.both(bundle.close())["exit"], 0)

    def test_big_files_are_mapped(self):
        bundle = fx.small_bundle()
        bundle.files["other/big"] = b"x" * (3 << 20)
        self.assertEqual(self.both(bundle.close())["exit"], 0)


class Containers(BundleTest):
    def setUp(self):
        super().setUp()
        self.files = fx.small_bundle().close()
        self.good = fx.zip_bytes(self.files)

    def changed(self, at, data):
        return self.good[:at] + data + self.good[at + len(data) :]

    def test_what_is_not_this_kind_of_zip(self):
        other = io.BytesIO()
        import zipfile

        with zipfile.ZipFile(other, "w") as archive:
            for name, data in sorted(self.files.items()):
                archive.writestr(name, data)
        for data in (
            b"", b"x", b"PK\x03\x04", self.good[:-1], self.good + b"\0", b"x" + self.good, other.getvalue(),
            self.good[:20], self.good[:35], self.changed(4, b"\x14"), self.changed(6, b"\x08"), self.changed(10, b"\1"),
            self.changed(12, b"\x22"), self.changed(28, b"\1"), self.changed(18, b"\xff\xff\xff\xff"),
            self.changed(22, b"\0"), self.changed(len(self.good) - 2, b"\1"),
            fx.zip_bytes(list(reversed(sorted(self.files.items())))),
        ):  # fmt: skip
            self.refused(self.zip(data), "CONTAINER_MALFORMED")

    def test_a_compressed_entry(self):
        self.refused(self.zip(self.changed(8, b"\x08")), "ENTRY_COMPRESSED")

    def test_forbidden_names(self):
        for name in (
            "", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "A", "a b", "a\\b", "\u00e9", "x" * 201, "SHA256SUMS/x",
            "x/SHA256SUMS", "c:", "a\0", "a\n",
        ):  # fmt: skip
            rows = sorted(list(self.files.items()) + [(name, b"")])
            self.refused(self.zip(fx.zip_bytes(rows)), "PATH_FORBIDDEN")
        rows = sorted(list(self.files.items()) + [("x" * 200, b"")])
        self.refused(self.zip(fx.zip_bytes(rows)), "FILE_UNLISTED")

    def test_a_name_that_comes_twice(self):
        rows = sorted(list(self.files.items()) + [("checkpoint", b"")])
        self.refused(self.zip(fx.zip_bytes(rows)), "ENTRY_DUPLICATE")

    def test_too_many_entries(self):
        rows = [("%06d" % i, b"") for i in range(65535)]
        self.refused(self.zip(fx.zip_bytes(rows[1:])), "FILE_MISSING")
        data = fx.zip_bytes(rows[1:])  # the end record cannot say 65,535, and it is never reached
        header = data[: data.index(b"\x50\x4b\x03\x04", 4)]
        self.refused(self.zip(header.replace(b"000001", b"000000") + data), "CONTAINER_LIMIT")

    def test_too_large(self):
        with open(self.path("huge.pef.zip"), "wb") as file:
            file.truncate(2**32)  # sparse
        self.refused(pef.verify_path(self.path("huge.pef.zip")), "CONTAINER_LIMIT")

    def test_a_crc_is_looked_at_last(self):
        crc = bytes([self.good[14] ^ 1])
        half = self.changed(14, crc)
        self.refused(self.zip(half), "CONTAINER_MALFORMED")
        at = self.good.index(b"\x50\x4b\x01\x02") + 16
        answer = self.zip(half[:at] + crc + half[at + 1 :])
        self.refused(answer, "CRC_MISMATCH")
        self.assertEqual(answer["verdicts"], verdicts("failed", "self_asserted", "complete", "absent"))

    def test_directories_hold_regular_files_with_allowed_paths(self):
        for name in ("A", "x/\u00e9", "a b", "SHA256SUMS2"):
            folder = self.path(name.replace("/", "_"))
            fx.write_folder(folder, dict(self.files, **{name: b""}))
            self.refused(pef.verify_path(folder), "PATH_FORBIDDEN")
        folder = self.path("link")
        fx.write_folder(folder, self.files)
        os.rename(os.path.join(folder, "checkpoint"), self.path("elsewhere"))
        os.symlink(self.path("elsewhere"), os.path.join(folder, "checkpoint"))
        self.refused(pef.verify_path(folder), "PATH_FORBIDDEN")
        folder = self.path("fifo")
        fx.write_folder(folder, self.files)
        os.mkfifo(os.path.join(folder, "pipe"))
        self.refused(pef.verify_path(folder), "PATH_FORBIDDEN")
        folder = self.path("raw")
        fx.write_folder(folder, self.files)
        with open(os.path.join(os.fsencode(folder), b"\xff"), "wb"):
            pass
        self.refused(pef.verify_path(folder), "PATH_FORBIDDEN")


class Manifests(BundleTest):
    def setUp(self):
        super().setUp()
        self.bundle = fx.small_bundle()
        self.manifest = self.bundle.manifest()
        self.files = self.bundle.close()

    def with_manifest(self, **members):
        return self.both(self.bundle.close(dict(self.manifest, **members)))

    def raw(self, name, data):
        return self.both(dict(self.files, **{name: data}))

    def test_files_that_must_be_there(self):
        for name in ("manifest.json", "manifest.dsse.json", "receipts.ndjson", "checkpoint", "SHA256SUMS"):
            files = dict(self.files)
            del files[name]
            self.refused(self.both(files), "FILE_MISSING")

    def test_malformed(self):
        good = self.files["manifest.json"]
        for data in (b"", b"[]", good + b"\n", b" " + good, good[:-1], good.replace(b"{", b"{ ", 1), b"\xef\xbb\xbf" + good):
            self.refused(self.raw("manifest.json", data), "MANIFEST_MALFORMED")

    def test_schema(self):
        self.refused(self.with_manifest(more=1), "MANIFEST_SCHEMA")
        self.refused(self.with_manifest(v="pef/v1"), "MANIFEST_SCHEMA")
        self.refused(self.with_manifest(opened="2026-11-21T04:00:00Z"), "MANIFEST_SCHEMA")

    def test_keys(self):
        rows = self.manifest["keys"]
        p256 = fx.P256Signer("c", "checkpoint")
        long = dict(rows[0], spki=fx.b64(fx.RECEIPT_KEY.spki + b"\0"))
        long["kid"] = hashlib.sha256(fx.RECEIPT_KEY.spki + b"\0").hexdigest()
        for keys, code in (
            (rows + rows[:1], "KEY_ID_MISMATCH"),
            (rows + [dict(rows[0], use="manifest")], "KEY_ID_MISMATCH"),
            ([dict(rows[0], kid="0" * 64)] + rows[1:], "KEY_ID_MISMATCH"),
            ([dict(rows[0], spki=rows[1]["spki"])] + rows[1:], "KEY_ID_MISMATCH"),
            ([dict(rows[0], spki="AB==")] + rows[1:], "KEY_ID_MISMATCH"),
            ([dict(rows[0], alg=pef.P256)] + rows[1:], "ALGORITHM_MISMATCH"),
            (rows + [long], "ALGORITHM_MISMATCH"),
            (rows + [fx.key_row(p256)], "ALGORITHM_MISMATCH"),
            ([dict(rows[0], alg=pef.P256)] + rows[1:] + rows[1:], "KEY_ID_MISMATCH"),  # M3 comes first
        ):
            self.refused(self.with_manifest(keys=keys), code)

    def test_envelopes(self):
        good = self.files["manifest.dsse.json"]
        value = pef.admit(good)
        row = value["signatures"][0]
        payload = pef.unbase64(value["payload"])
        malformed = [
            b"", good + b" ", b"{}",
            pef.canonical(dict(value, more=1)),
            pef.canonical(dict(value, signatures=[])),
            pef.canonical(dict(value, signatures=[row, row])),
            pef.canonical(dict(value, signatures=[dict(row, cert="")])),
            pef.canonical(dict(value, signatures=[dict(row, sig=row["sig"] + "=")])),
            pef.canonical(dict(value, payload=value["payload"].rstrip("=") + "\n")),
            fx.envelope(fx.MANIFEST_KEY, pef.TYPE_ENTRY, payload),
            fx.envelope(fx.MANIFEST_KEY, pef.TYPE_STATEMENT, payload + b"\n"),
            fx.envelope(fx.MANIFEST_KEY, pef.TYPE_STATEMENT, b"{"),
        ]  # fmt: skip
        for data in malformed:
            self.refused(self.raw("manifest.dsse.json", data), "ENVELOPE_MALFORMED")
        for signer in (fx.P256Signer("manifest 2", "manifest"), fx.RECEIPT_KEY):
            data = fx.envelope(signer, pef.TYPE_STATEMENT, payload)
            self.refused(self.raw("manifest.dsse.json", data), "KEY_UNKNOWN")
        raw = fx.MANIFEST_KEY.sign(fx.pae(pef.TYPE_STATEMENT, payload))
        for signature in (raw, fx.der(raw) + b"\0", fx.der(fx.MANIFEST_KEY.sign(payload)), b"\0"):
            data = pef.canonical(dict(value, signatures=[dict(row, sig=fx.b64(signature))]))
            self.refused(self.raw("manifest.dsse.json", data), "ENVELOPE_SIGNATURE")

    def test_what_the_manifest_says_of_the_run(self):
        m = self.manifest
        for members in (
            {"tree": dict(m["tree"], size=4)}, {"tree": dict(m["tree"], root="root:" + "0" * 64)},
            {"counters": dict(m["counters"], hold=1)}, {"claims": {}}, {"claims": {"agent": ["other"]}},
            {"policies": []}, {"sign": "checkpoint"}, {"durability": "sync"}, {"class": "ambient"}, {"name": "other"},
            {"opened": m["sealed"]}, {"sealed": m["opened"]}, {"seal_reason": "timeout"},
            {"build": {"name": "estoppel", "version": "0.1.1"}}, {"metrics": {}},
            {"metrics": dict(m["metrics"], total_p99_us=1)},
        ):  # fmt: skip
            self.refused(self.with_manifest(**members), "MANIFEST_MISMATCH")
        self.assertEqual(self.with_manifest(metrics=dict(m["metrics"], snapshot_lag_bytes_max=1))["exit"], 0)
        without = {k: v for k, v in m.items() if k not in ("name", "metrics")}
        self.refused(self.both(self.bundle.close(without)), "MANIFEST_MISMATCH")

    def test_the_manifest_decides_which_run_it_is(self):
        self.refused(self.with_manifest(run=fx.LATER), "RUN_MISMATCH", 0)
        self.refused(self.with_manifest(iss="gw.example/a/2"), "RUN_MISMATCH", 0)


class Lines(BundleTest):
    def run_writer(self, sign="each"):
        run = fx.RunWriter(sign=sign)
        run.open()
        run.call()
        return run

    def test_lengths(self):
        files = fx.small_bundle().close()
        good = files["receipts.ndjson"]
        for data, seq in ((b"", 0), (b"\n", 0), (good[:-1], 2), (good + b"\n", 3), (good + b"x" * 20000, 3), (good + b"x", 3)):
            self.refused(self.both(dict(files, **{"receipts.ndjson": data})), "LINE_LENGTH", seq)
        for length, code in ((16384, "SEAL_MISSING"), (16385, "LINE_LENGTH")):
            run = self.run_writer()
            run.call(ext={"a": ""})
            free = length - len(run.lines[2])
            run = self.run_writer()
            run.call(ext={"a": "x" * free})
            self.assertEqual(len(run.lines[2]), length)
            answer = self.lines(run)
            self.assertEqual((answer["reason"], answer["seq"]), (code, 3 if code == "SEAL_MISSING" else 2))

    def test_a_line_that_is_no_json(self):
        for bad in (b"{}x", b"\xff", b"{", b'{"a":null}'):
            run = self.run_writer()
            run.add_line(bad)
            self.refused(self.lines(run), "LINE_MALFORMED", 2)

    def test_a_line_that_is_not_canonical(self):
        run = self.run_writer()
        run.call()
        line = run.lines.pop()
        for bad in (line.replace(b":", b": ", 1), line + b"\r", line.replace(b"POST", b"\\u0050OST")):
            other = self.run_writer()
            other.add_line(bad)
            self.refused(self.lines(other), "LINE_NOT_CANONICAL", 2)

    def test_a_line_that_does_not_fit_its_schema(self):
        for edit in (
            {"more": 1}, {"attempt": 0}, {"v": "pef/v1"}, {"kind": "hold"}, {"kind": "call\n"}, {"mono_us": -1},
            {"ts": "2026-11-21T04:00:00.000000Z\n"}, {"data_class": ["a"] * 17}, {"tenant": ""}, {"risk": True},
        ):  # fmt: skip
            run = self.run_writer()
            run.call(edit=lambda entry: entry.update(edit))
            self.refused(self.lines(run), "LINE_SCHEMA", 2)

    def test_sequence(self):
        for seq in (1, 3, 2**53 - 1):
            run = self.run_writer()
            run.call(edit=lambda entry: entry.update(seq=seq))
            self.refused(self.lines(run), "SEQ_MISMATCH", 2)
        run = self.run_writer()
        del run.lines[0], run.signatures[0]
        self.refused(self.lines(run), "SEQ_MISMATCH", 0)
        run = self.run_writer()
        run.add_line(run.lines[0])
        self.refused(self.lines(run), "SEQ_MISMATCH", 2)

    def test_run_and_instance(self):
        for edit in ({"run": fx.LATER}, {"iss": "gw.example/b/1"}):
            run = self.run_writer()
            run.call(edit=lambda entry: entry.update(edit))
            self.refused(self.lines(run), "RUN_MISMATCH", 2)

    def test_chain(self):
        run = self.run_writer()
        run.call(edit=lambda entry: entry.update(prev="leaf:" + "0" * 64))
        self.refused(self.lines(run), "CHAIN_BROKEN", 2)

    def test_keys(self):
        for signer in (fx.NEXT_KEY, fx.STRANGER, fx.CHECKPOINT_KEY):
            run = self.run_writer()
            run.key = signer
            run.call()
            self.refused(self.lines(run), "KEY_MISMATCH", 2)
            run = fx.RunWriter()
            run.key = signer
            run.open()
            self.refused(self.lines(run), "KEY_MISMATCH", 0)

    def test_time(self):
        run = self.run_writer()
        run.call(edit=lambda entry: entry.update(mono_us=999))
        self.refused(self.lines(run), "TIME_REVERSED", 2)

    def test_signatures(self):
        run = self.run_writer()
        run.call()
        run.seal()
        run.signatures[2] = bytes(64)
        self.refused(self.lines(run), "SIGNATURE_INVALID", 2)
        for missing in (1, 64, 65, 256):
            files = fx.small_bundle().close()
            files["receipts.sig"] = files["receipts.sig"][:-missing]
            self.refused(self.both(files), "SIGNATURE_MISSING", max(0, 2 - (missing - 1) // 64))
        del files["receipts.sig"]
        self.refused(self.both(files), "SIGNATURE_MISSING", 0)
        for sign in ("each", "checkpoint"):
            files = fx.small_bundle(sign).close()
            files["receipts.sig"] = files.get("receipts.sig", b"") + b"\0"
            self.refused(self.both(files), "SIGNATURE_SURPLUS")

    def test_rotations(self):
        def proof(**changes):
            def edit(entry):
                body = {"iss": fx.ISS, "new": fx.NEXT_KEY.kid, "old": fx.RECEIPT_KEY.kid, "run": fx.RUN, "use": "receipt"}
                body.update(changes)
                signature = fx.NEXT_KEY.sign(fx.pae(pef.TYPE_POSSESSION, pef.canonical(body)))
                entry["possession"] = fx.b64(signature)

            return edit

        def refused(run, seq):
            bundle = fx.small_bundle()
            manifest = bundle.manifest()
            manifest["keys"] = [fx.key_row(signer) for signer in fx.KEYS]
            bundle.files["receipts.ndjson"] = b"".join(line + b"\n" for line in run.lines)
            bundle.files["receipts.sig"] = b"".join(run.signatures)
            return self.both(bundle.close(manifest))

        for edit in (
            proof(run=fx.LATER), proof(use="manifest"), proof(new=fx.RECEIPT_KEY.kid),
            lambda e: e.update(possession="AAAA"), lambda e: e.update(possession="AB=="), lambda e: e.update(alg=pef.ED25519),
            lambda e: e.update(spki=fx.b64(fx.RECEIPT_KEY.spki)), lambda e: e.update(use="manifest"),
            lambda e: e.update(new=fx.CHECKPOINT_KEY.kid), lambda e: e.update(old=fx.CHECKPOINT_KEY.kid),
        ):  # fmt: skip
            run = self.run_writer()
            run.rotate(edit=edit)
            self.refused(refused(run, 2), "ROTATION_INVALID", 2)
        run = self.run_writer()
        run.rotate(new=fx.STRANGER)
        self.refused(refused(run, 2), "ROTATION_INVALID", 2)
        run = self.run_writer()
        run.rotate()
        run.key = fx.RECEIPT_KEY
        run.call()
        self.refused(refused(run, 3), "KEY_MISMATCH", 3)

    def test_nothing_follows_the_seal(self):
        for add in ("call", "seal"):
            run = fx.small_run()
            getattr(run, add)()
            self.refused(self.lines(run), "SEAL_NOT_LAST", 3)

    def test_a_run_that_was_not_sealed(self):
        answer = self.lines(self.run_writer())
        self.refused(answer, "SEAL_MISSING", 2)
        self.assertEqual(answer["verdicts"], verdicts(completeness="open"))

    def test_what_the_seal_says(self):
        for edit in (
            {"count": 3}, {"head": "leaf:" + "0" * 64}, {"root": "root:" + "0" * 64},
            {"counters": {"calls": 1, "allow": 0, "repair": 1, "hold": 0, "block": 0, "interrupted": 0, "incomplete": 0}},
        ):  # fmt: skip
            run = self.run_writer()
            run.seal(lambda entry: entry.update(edit))
            self.refused(self.lines(run), "SEAL_MISMATCH", 2)

    def test_the_first_failing_line_decides(self):
        run = self.run_writer()
        run.call(edit=lambda entry: entry.update(mono_us=0))
        run.add_line(b"x")
        self.refused(self.lines(run), "TIME_REVERSED", 2)


class Files(BundleTest):
    def test_checkpoints(self):
        origin = "%s/run/%s" % (fx.ISS, fx.RUN)
        run = fx.small_run()
        root = pef.tree_root(run.leaves())
        key = fx.CHECKPOINT_KEY
        good = fx.note(key, origin, 3, root)
        other = fx.EdSigner("other", "checkpoint")
        for note, code in (
            (good, None),
            (good[:-1], "CHECKPOINT_MALFORMED"),
            (fx.note(key, fx.ISS, 3, root), "CHECKPOINT_MALFORMED"),
            (fx.note(key, origin, 2, root), "CHECKPOINT_MISMATCH"),
            (fx.note(key, origin, 3, bytes(32)), "CHECKPOINT_MISMATCH"),
            (fx.note(other, origin, 3, root), "CHECKPOINT_SIGNATURE"),
            (fx.note(key, origin, 3, root, name="gw.example/b/1"), "CHECKPOINT_SIGNATURE"),
            (fx.note(fx.RECEIPT_KEY, origin, 3, root), "CHECKPOINT_SIGNATURE"),
            (good[:-10] + b"AAAAAAAAA\n", "CHECKPOINT_MALFORMED"),
            (good[:-10] + b"AAAAAAAA=\n", "CHECKPOINT_SIGNATURE"),
        ):
            bundle = fx.small_bundle()
            bundle.files["checkpoint"] = note
            answer = self.both(bundle.close())
            if code is None:
                self.assertEqual(answer["exit"], 0)
            else:
                self.refused(answer, code)

    def test_listed_and_present(self):
        bundle = fx.small_bundle()
        manifest = bundle.manifest()
        files = bundle.close(manifest)
        rows = manifest["files"]
        key_file = rows[1]["path"]
        self.assertTrue(key_file.startswith("keys/"))
        self.refused(self.both({n: d for n, d in files.items() if n != key_file}), "FILE_MISSING")
        self.refused(self.both(dict(files, extra=b"")), "FILE_UNLISTED")
        missing_and_unlisted = dict({n: d for n, d in files.items() if n != key_file}, extra=b"")
        self.refused(self.both(missing_and_unlisted), "FILE_MISSING")
        row = {"bytes": 0, "path": "manifest.json", "role": "other", "sha256": fx.digest(b"")}
        for changed in (rows + rows[-1:], [rows[1], rows[0]] + rows[2:], sorted(rows + [row], key=lambda r: r["path"])):
            self.refused(self.both(bundle.close(dict(manifest, files=changed))), "FILE_UNLISTED")
        for change in ({"bytes": 1}, {"sha256": fx.digest(b"")}):
            changed = [dict(rows[0], **change)] + rows[1:]
            self.refused(self.both(bundle.close(dict(manifest, files=changed))), "FILE_DIGEST")
        self.refused(self.both(dict(files, **{key_file: b"other"})), "FILE_DIGEST")

    def test_files_named_by_digest(self):
        name = hashlib.sha256(b"").hexdigest()
        for path in (
            "policy/%s.json" % ("0" * 64), "contracts/%s.json" % ("0" * 64), "bodies/" + "0" * 64, "policy/" + name,
            "bodies/%s.json" % name, "contracts/x/%s.json" % name,
        ):  # fmt: skip
            bundle = fx.small_bundle()
            bundle.files[path] = b""
            self.refused(self.both(bundle.close()), "FILE_NAME_DIGEST")

    def test_a_policy_that_is_missing(self):
        run = fx.RunWriter()
        run.open()
        run.call()
        run.call(policy={"hash": fx.digest(b"other")})
        run.seal()
        self.refused(self.both(fx.BundleWriter(run).entry_files().close()), "POLICY_MISSING", 2)

    def test_statement_and_sums(self):
        bundle = fx.small_bundle()
        for edit in (
            lambda s: s.update(predicateType="urn:estoppel:pef:manifest:v1"),
            lambda s: s.update(_type="https://in-toto.io/Statement/v0.1"),
            lambda s: s.update(more=1),
            lambda s: s["predicate"].update(size=2),
            lambda s: s["predicate"].update(run=fx.LATER),
            lambda s: s["subject"].pop(),
            lambda s: s["subject"].reverse(),
            lambda s: s["subject"][0]["digest"].update(sha512="0"),
            lambda s: s["subject"][0].update(name="x"),
        ):
            self.refused(self.both(bundle.close(edit_statement=edit)), "STATEMENT_MISMATCH")
        files = bundle.close()
        changed = pef.admit(files["manifest.json"])
        changed["ext"] = {}
        resummed = fx.with_sums(dict(files, **{"manifest.json": pef.canonical(changed)}))
        self.refused(self.both(resummed), "STATEMENT_MISMATCH")
        sums = files["SHA256SUMS"]
        for bad in (b"", sums[:-1], sums + b"\n", sums.replace(b"  ", b" *"), sums.replace(b"\n", b"\r\n"), sums[66:]):
            self.refused(self.both(dict(files, SHA256SUMS=bad)), "SUMS_MISMATCH")

    def streams(self, sse, data, present=True):
        run = fx.RunWriter()
        run.open()
        run.call(sse=dict({"events": 0, "nodes": fx.digest(data)}, **sse))
        run.seal()
        bundle = fx.BundleWriter(run).entry_files()
        if present:
            bundle.files["streams/%s.nodes" % run.entries[1]["call"]] = data
        return self.both(bundle.close())

    def test_streams(self):
        nodes = [pef.leaf_hash(b"%d" % i) for i in range(3)]
        data = b"".join(nodes)
        root = "root:" + pef.tree_root(nodes).hex()
        good = {"units": 3, "level": 0, "root": root}
        self.assertEqual(self.streams(good, data)["exit"], 0)
        empty = {"units": 0, "level": 0, "root": "root:" + hashlib.sha256(b"").hexdigest()}
        self.assertEqual(self.streams(empty, b"")["exit"], 0)
        self.refused(self.streams(good, data, present=False), "STREAM_MISMATCH", 1)
        self.refused(self.streams(dict(good, nodes=fx.digest(b"")), data), "STREAM_MISMATCH", 1)
        for change in ({"units": 2}, {"units": 4}, {"level": 1}, {"root": "root:" + "0" * 64}):
            self.refused(self.streams(dict(good, **change), data), "STREAM_MISMATCH", 1)
        self.refused(self.streams({"units": 3, "root": root}, data), "STREAM_MISMATCH", 1)
        self.refused(self.streams(good, data + b"\0"), "STREAM_MISMATCH", 1)

    def test_the_level_is_the_least_that_fits(self):
        nodes = [pef.leaf_hash(b"%d" % i) for i in range(32769)]  # blocks of two of 65,537 units
        sse = {"units": 65537, "level": 1, "root": "root:" + pef.tree_root(nodes).hex()}
        self.assertEqual(self.streams(sse, b"".join(nodes))["exit"], 0)
        sse["root"] = "root:" + pef.tree_root(nodes[:32768]).hex()
        self.refused(self.streams(dict(sse, level=2, units=131072), b"".join(nodes[:32768])), "STREAM_MISMATCH", 1)
        self.refused(self.streams(dict(sse, units=65536), b"".join(nodes)), "STREAM_MISMATCH", 1)

    def test_bodies_and_externals(self):
        def bundle(externals, bodies=()):
            run = fx.RunWriter()
            run.open()
            run.call()
            run.call(response={"client": {"bytes": 1}, "upstream": {"bytes": 3, "sha256": fx.digest(b"far")}})
            run.seal()
            writer = fx.BundleWriter(run).entry_files()
            writer.externals = [dict(bytes=3, role="body", sha256=fx.digest(data)) for data in externals]
            for data in bodies:
                writer.files["bodies/" + hashlib.sha256(data).hexdigest()] = data
            return writer.close()

        name = hashlib.sha256(b"far").hexdigest()
        self.refused(self.both(bundle([])), "BODY_MISSING", 2)
        self.assertEqual(self.both(bundle([], [b"far"]))["exit"], 0)
        self.refused(self.both(bundle([b"far", b"xyz"])), "EXTERNAL_UNKNOWN")
        answer = self.both(bundle([b"far"]))
        self.refused(answer, "MISSING_EXTERNAL")
        self.assertEqual(answer["verdicts"], verdicts(completeness="failed"))
        for data, code in ((b"fax", "EXTERNAL_DIGEST"), (b"farr", "EXTERNAL_DIGEST"), (b"", "EXTERNAL_DIGEST"), (b"far", None)):
            for folder in ("b.d", "b.pef.zip.d"):
                fx.write_folder(self.path(folder), {name: data})
            self.assertEqual(self.both(bundle([b"far"]))["reason"], code)


class AnchorsAndTrust(BundleTest):
    def bundle(self, **options):
        run = fx.small_run()
        return fx.BundleWriter(run).entry_files().with_anchor(**options)

    def test_anchors(self):
        good = self.bundle().files["anchor.tlog-proof"]
        lines = good.split(b"\n")
        seal_root = fx.small_run().leaves()[-1]
        alone = b"c2sp.org/tlog-proof@v1\nindex 0\n\n" + fx.note(fx.CHECKPOINT_KEY, fx.ISS, 1, seal_root)
        wrong_origin = fx.note(fx.CHECKPOINT_KEY, fx.ISS + "/x", 1, seal_root)
        for data, code in (
            (good, None),
            (alone, None),
            (b"", "ANCHOR_MALFORMED"),
            (good[1:], "ANCHOR_MALFORMED"),
            (good[:-1], "ANCHOR_MALFORMED"),
            (good.replace(b"index 2", b"index 02"), "ANCHOR_MALFORMED"),
            (good.replace(b"index 2\n", b""), "ANCHOR_MALFORMED"),
            (good.replace(b"index 2\n", b"extra AAAA\nindex 2\n"), "ANCHOR_MALFORMED"),
            (good.replace(lines[2], lines[2][:-4]), "ANCHOR_MALFORMED"),
            (b"c2sp.org/tlog-proof@v1\nindex 0\n\n" + wrong_origin, "ANCHOR_MALFORMED"),
            (good.replace(b"index 2", b"index 1"), "ANCHOR_MISMATCH"),
            (good.replace(b"index 2", b"index 4"), "ANCHOR_MISMATCH"),
            (good.replace(lines[2] + b"\n", b""), "ANCHOR_MISMATCH"),
            (good.replace(lines[2], lines[3]), "ANCHOR_MISMATCH"),
            (self.bundle(signer=fx.EdSigner("x", "checkpoint")).files["anchor.tlog-proof"], "ANCHOR_SIGNATURE"),
        ):
            bundle = self.bundle()
            bundle.files["anchor.tlog-proof"] = data
            answer = self.both(bundle.close())
            self.assertEqual(answer["reason"], code, answer["detail"])
            wanted = verdicts(completeness="complete", anchoring="failed") if code else verdicts("ok", "self_asserted", "complete", "anchored")
            self.assertEqual(answer["verdicts"], wanted)

    def test_trust(self):
        files = self.bundle().close()
        keys = list(fx.KEYS)
        self.assertEqual(self.both(files, fx.trust_document())["verdicts"]["authenticity"], "trusted")
        for signer in (fx.RECEIPT_KEY, fx.CHECKPOINT_KEY, fx.MANIFEST_KEY):
            rest = [s for s in keys if s is not signer]
            answer = self.both(files, fx.trust_document(rest))
            self.refused(answer, "KEY_UNTRUSTED")
            self.assertEqual(answer["verdicts"], verdicts("unchecked", "failed", "complete", "anchored"))
            other = pef.admit(fx.trust_document())
            for row in other["keys"]:
                if row["kid"] == signer.kid:
                    row["iss"] = "gw.example/a/2"
            self.refused(self.both(files, pef.canonical(other)), "KEY_UNTRUSTED")
        swapped = pef.admit(fx.trust_document())
        swapped["keys"][0]["use"] = "manifest"
        self.refused(self.both(files, pef.canonical(swapped)), "KEY_UNTRUSTED")

    def test_revocation(self):
        files = self.bundle().close()  # the seal is entry 2 of the log
        for use in ("receipt", "checkpoint", "manifest"):
            self.refused(self.both(files, fx.trust_document(**{use: 2})), "KEY_REVOKED")
            self.assertEqual(self.both(files, fx.trust_document(**{use: 3}))["exit"], 0)
            self.refused(self.both(fx.small_bundle().close(), fx.trust_document(**{use: 3})), "KEY_REVOKED")

    def test_a_trust_document_that_cannot_be_used(self):
        files = self.bundle().close()
        good = pef.admit(fx.trust_document())
        rows = good["keys"]
        for data in (
            b"", b"{}", fx.trust_document() + b"\n", pef.canonical(dict(good, keys=[])),
            pef.canonical(dict(good, keys=rows + rows[:1])), pef.canonical(dict(good, keys=[dict(rows[0], kid="0" * 64)])),
            pef.canonical(dict(good, keys=[dict(rows[0], alg=pef.P256)])), pef.canonical(dict(good, v="pef/v0")),
        ):  # fmt: skip
            answer = self.both(files, data)
            self.assertEqual((answer["exit"], answer["reason"], answer["ok"]), (6, "TRUST_INVALID", False))
            self.assertEqual(answer["verdicts"], verdicts())
        # the reader's own input comes first
        self.assertEqual(self.both(dict(files, SHA256SUMS=b""), b"")["reason"], "TRUST_INVALID")


# --- sections 12 to 14 ------------------------------------------------------------------------


class JournalTest(Folder):
    def verify(self, files, trust=None, against=None):
        folder = self.path("j")
        shutil.rmtree(folder, ignore_errors=True)
        fx.write_folder(folder, files)
        return pef.verify_path(folder, trust, against=against)

    def open(self, sign="each"):
        """A journal with one open run of two entries."""
        journal, run = fx.JournalWriter(), fx.RunWriter(sign=sign)
        run.open()
        journal.entry(run)
        run.call()
        journal.entry(run)
        return journal, run


class Journals(JournalTest):
    def test_good_journals(self):
        for padding in (0, 1, 5000):
            answer = self.verify(fx.small_journal(padding).files())
            self.assertEqual(answer["exit"], 0, answer["detail"])
            self.assertEqual(answer["verdicts"], verdicts("ok", "self_asserted", "unchecked", "absent"))
            self.assertEqual((answer["kind"], answer["entries"], answer["run"]), ("journal", 5, None))
        made = fx.small_journal()
        answer = self.verify(made.files(), against=made.note())
        self.assertEqual(answer["verdicts"], verdicts("ok", "self_asserted", "complete", "anchored"))
        files = fx.small_journal().files()
        self.assertEqual(self.verify(files, fx.trust_document())["verdicts"]["authenticity"], "trusted")
        answer = self.verify(fx.small_journal().files(checkpoint=False))
        self.assertEqual((answer["exit"], answer["verdicts"]["completeness"]), (0, "unchecked"))
        journal, _ = self.open()
        self.assertEqual(self.verify(journal.files(checkpoint=journal.note(1)))["exit"], 0)
        journal.end()
        self.assertEqual(self.verify(journal.files())["exit"], 0)
        self.assertEqual(self.verify(fx.JournalWriter().files(checkpoint=False))["entries"], 0)

    def test_entries_that_nobody_signed_are_not_authentic(self):
        journal, run = self.open("checkpoint")
        for checkpoint, value in ((False, "unchecked"), (journal.note(1), "unchecked"), (journal.note(), "trusted")):
            answer = self.verify(journal.files(checkpoint), fx.trust_document())
            self.assertEqual((answer["exit"], answer["verdicts"]["authenticity"]), (0, value))
        journal.checkpoint()
        self.assertEqual(self.verify(journal.files(False))["verdicts"]["authenticity"], "self_asserted")
        run.call()
        journal.entry(run)
        self.assertEqual(self.verify(journal.files(False))["verdicts"]["authenticity"], "unchecked")
        signed, _ = self.open()
        self.assertEqual(self.verify(signed.files(False))["verdicts"]["authenticity"], "self_asserted")

    def test_trust_is_needed(self):
        files = fx.small_journal().files()
        answer = self.verify(dict(files, **{"trust.json": b"{}"}))
        self.assertEqual((answer["exit"], answer["reason"]), (6, "TRUST_INVALID"))
        del files["trust.json"]
        answer = self.verify(files)
        self.assertEqual((answer["exit"], answer["reason"]), (6, "TRUST_INVALID"))
        self.assertEqual(self.verify(files, fx.trust_document())["exit"], 0)
        rest = [s for s in fx.KEYS if s is not fx.RECEIPT_KEY]
        self.refused(self.verify(files, fx.trust_document(rest)), "KEY_MISMATCH", 0, 0)
        rest = [s for s in fx.KEYS if s is not fx.CHECKPOINT_KEY]
        self.refused(self.verify(files, fx.trust_document(rest)), "CHECKPOINT_SIGNATURE", None, 2)
        other = fx.trust_document().replace(fx.ISS.encode(), b"gw.example/a/2")
        self.refused(self.verify(files, other), "KEY_MISMATCH", 0, 0)

    def test_headers(self):
        good = fx.small_journal().files()
        first, second = sorted(name for name in good if name.startswith("segments/"))
        self.refused(self.verify({"trust.json": fx.trust_document()}), "SEGMENT_HEADER")
        data = good[second]
        for name, bad in (
            (second, b""), (second, data[:255]), (second, b"x" + data[1:]), (second, data[:252] + b"0000" + data[256:]),
            (second, data[:100] + b"x" + data[101:]), ("segments/x", b""), ("segments/00000000000000000004.seg", data),
        ):  # fmt: skip
            self.refused(self.verify(dict(good, **{name: bad})), "SEGMENT_HEADER")
        other = fx.JournalWriter("gw.example/a/2")
        header = bytearray(other.segments[0][1])
        for at, value in ((8, struct.pack("<Q", 3)), (16, data[16:48])):
            header[at : at + len(value)] = value
        for edit in (lambda h: None, lambda h: h.__setitem__(slice(240, 241), b"x"), lambda h: h.__setitem__(48, 203)):
            changed = bytearray(header)
            edit(changed)
            changed[252:] = struct.pack("<I", zlib.crc32(changed[:252]))
            self.refused(self.verify(dict(good, **{second: bytes(changed) + data[256:]})), "SEGMENT_HEADER")

        def rewritten(name, at, value):
            changed = bytearray(good[name][:252])
            changed[at : at + len(value)] = value
            return dict(good, **{name: bytes(changed) + struct.pack("<I", zlib.crc32(changed)) + good[name][256:]})

        self.refused(self.verify(rewritten(second, 16, bytes(32))), "INDEX_MISMATCH", None, 3)
        self.refused(self.verify(rewritten(first, 16, b"x")), "INDEX_MISMATCH", None, 0)
        only = {name: value for name, value in good.items() if name != first}
        self.refused(self.verify(only), "INDEX_MISMATCH", None, 0)

    def test_torn_and_broken_frames(self):
        journal, run = self.open()
        good = journal.segments[0][1]
        one = fx.frame(fx.ENTRY, 0, b"\0" + run.lines[0])
        for tail in (b"x", one[:10], one[:-1], one[:-1] + b"~", b"\1\0\0\0\1", bytes(40) + b"x", bytes(17) + one[:30]):
            journal.segments[0][1] = good + tail
            self.refused(self.verify(journal.files()), "JOURNAL_TORN", None, 2)
        for bad in (b"x" + one, one[:-1] + one, fx.frame(5, 2, b"x") + one, fx.frame(0, 2, b"x") + one, b"x" * 9000 + one):
            journal.segments[0][1] = good + bad
            self.refused(self.verify(journal.files()), "FRAME_INVALID", None, 2)
        for claim, code in ((1280, "JOURNAL_TORN"), (2**20, "FRAME_INVALID"), (32 * 65536 + 33, "JOURNAL_TORN")):
            # Every fifth byte claims to start a blob: little to look at, more than 1 GiB, longer than any.
            journal.segments[0][1] = good + struct.pack("<IB", claim, 2) * (3 * 2**20 // 5)
            self.refused(self.verify(journal.files()), code, None, 2)
        for payload in (b"\1" + run.lines[1], b"\x40short"):
            journal.segments[0][1] = good
            journal.frame(fx.ENTRY, payload)
            self.refused(self.verify(journal.files()), "FRAME_INVALID", None, 2)
        journal.segments[0][1] = good
        journal.frame(fx.END, b"\1")
        self.refused(self.verify(journal.files()), "FRAME_INVALID", None, 2)
        files = fx.small_journal().files()  # in another segment than the last it is never torn
        first = "segments/%020d.seg" % 0
        self.refused(self.verify(dict(files, **{first: files[first][:-1]})), "FRAME_INVALID", None, 3)

    def test_indexes(self):
        for kind in (fx.ENTRY, fx.BLOB, fx.CHECKPOINT, fx.END):
            for index in (0, 1, 3):
                journal, run = self.open()
                run.call()
                payload = {
                    fx.ENTRY: b"\x40" + run.signatures[2] + run.lines[2], fx.BLOB: hashlib.sha256(b"").digest(),
                    fx.CHECKPOINT: journal.note(), fx.END: b"\0",
                }[kind]  # fmt: skip
                journal.frame(kind, payload, index)
                self.refused(self.verify(journal.files()), "INDEX_MISMATCH", None, 2)
        journal, run = self.open()
        journal.end()
        journal.checkpoint()
        self.refused(self.verify(journal.files()), "INDEX_MISMATCH", None, 2)
        journal, run = self.open()
        journal.begin()
        self.refused(self.verify(journal.files()), "INDEX_MISMATCH", None, 2)

    def test_entries(self):
        def after(edit=None, line=None, key=None):
            journal, run = self.open()
            run.key = key or run.key
            if line is None:
                run.call(edit=edit)
            else:
                run.add_line(line)
            journal.entry(run)
            return self.verify(journal.files())

        self.assertEqual(after()["exit"], 0)
        self.refused(after(line=b""), "LINE_LENGTH", None, 2)
        self.refused(after(line=b"x" * 16385), "LINE_LENGTH", None, 2)
        self.refused(after(line=b'{"seq":2'), "LINE_MALFORMED", None, 2)
        self.refused(after(line=b'{"seq":2 }'), "LINE_NOT_CANONICAL", 2, 2)
        self.refused(after(line=b'{"seq":2}'), "LINE_SCHEMA", 2, 2)
        self.refused(after(line=b'{"seq":"2"}'), "LINE_SCHEMA", None, 2)
        self.refused(after(lambda e: e.update(seq=3)), "SEQ_MISMATCH", 3, 2)
        self.refused(after(lambda e: e.update(run=fx.LATER)), "SEQ_MISMATCH", 2, 2)
        self.refused(after(lambda e: e.update(iss="gw.example/b/1")), "RUN_MISMATCH", 2, 2)
        self.refused(after(lambda e: e.update(prev="leaf:" + "0" * 64)), "CHAIN_BROKEN", 2, 2)
        self.refused(after(key=fx.NEXT_KEY), "KEY_MISMATCH", 2, 2)
        self.refused(after(lambda e: e.update(mono_us=0)), "TIME_REVERSED", 2, 2)

    def test_signatures(self):
        for sign, signature, code in (
            ("each", b"", "SIGNATURE_MISSING"),
            ("each", bytes(64), "SIGNATURE_INVALID"),
            ("checkpoint", bytes(64), "SIGNATURE_SURPLUS"),
        ):
            journal, run = self.open(sign)
            run.call()
            journal.entry(run, signature=signature)
            self.refused(self.verify(journal.files()), code, 2, 2)

    def test_rotation_seal_and_what_follows(self):
        journal, run = self.open()
        run.rotate()
        journal.entry(run)
        run.seal()
        journal.entry(run)
        self.assertEqual(self.verify(journal.files())["exit"], 0)
        run.call()
        journal.entry(run)
        self.refused(self.verify(journal.files()), "SEAL_NOT_LAST", 4, 4)
        journal, run = self.open()
        run.rotate(edit=lambda e: e.update(possession="AAAA"))
        journal.entry(run)
        self.refused(self.verify(journal.files()), "ROTATION_INVALID", 2, 2)
        journal, run = self.open()
        run.seal(lambda e: e.update(count=1))
        journal.entry(run)
        self.refused(self.verify(journal.files()), "SEAL_MISMATCH", 2, 2)

    def test_revoked_keys(self):
        files = fx.small_journal().files()
        self.refused(self.verify(files, fx.trust_document(receipt=3)), "KEY_REVOKED", 2, 3)
        self.assertEqual(self.verify(files, fx.trust_document(receipt=5))["exit"], 0)
        self.refused(self.verify(files, fx.trust_document(checkpoint=1)), "KEY_REVOKED", None, 2)
        self.assertEqual(self.verify(files, fx.trust_document(checkpoint=5))["exit"], 0)

    def test_blobs(self):
        journal, run = self.open()
        journal.frame(fx.BLOB, bytes(32) + b"nodes")
        self.refused(self.verify(journal.files()), "BLOB_MISMATCH", None, 2)
        journal, run = self.open()
        journal.frame(fx.BLOB, b"short")
        self.refused(self.verify(journal.files()), "FRAME_INVALID", None, 2)
        journal, run = self.open()
        journal.blob(b"nodes")
        self.refused(self.verify(journal.files()), "BLOB_MISMATCH", None, 2)
        run.call()
        journal.entry(run)
        self.refused(self.verify(journal.files()), "BLOB_MISMATCH", 2, 2)

    def test_checkpoint_frames(self):
        other = fx.EdSigner("other", "checkpoint")
        root = bytes(32)
        for note, code in (
            (lambda j: b"x", "CHECKPOINT_MALFORMED"),
            (lambda j: j.note().replace(b"/a/1\n", b"/a/2\n"), "CHECKPOINT_MALFORMED"),
            (lambda j: fx.note(fx.CHECKPOINT_KEY, fx.ISS, 2, root), "CHECKPOINT_MISMATCH"),
            (lambda j: j.note(1), "CHECKPOINT_MISMATCH"),
            (lambda j: j.note(signer=other), "CHECKPOINT_SIGNATURE"),
        ):
            journal, _ = self.open()
            journal.frame(fx.CHECKPOINT, note(journal))
            self.refused(self.verify(journal.files()), code, None, 2)
            if code != "CHECKPOINT_MISMATCH":
                journal, _ = self.open()
                self.refused(self.verify(journal.files(checkpoint=note(journal))), code, None, 2)

    def test_a_journal_that_lost_its_end(self):
        journal, run = self.open()
        before = [list(segment) for segment in journal.segments]
        run.call()
        journal.entry(run)
        newest = journal.note()
        journal.segments = before
        answer = self.verify(journal.files(checkpoint=newest))
        self.refused(answer, "JOURNAL_TRUNCATED", None, 2)
        self.assertEqual(answer["verdicts"], verdicts(completeness="failed"))
        wrong = fx.note(fx.CHECKPOINT_KEY, fx.ISS, 1, bytes(32))
        self.refused(self.verify(journal.files(checkpoint=wrong)), "CHECKPOINT_MISMATCH", None, 2)


class Receipts(Folder):
    def verify(self, line, signer=fx.RECEIPT_KEY, key=fx.RECEIPT_KEY, kind=pef.TYPE_ENTRY, edit=None):
        data = fx.envelope(signer, kind, line)
        data = edit(data) if edit else data
        return pef.verify_path(self.write("r.dsse.json", data), key=fx.pem(key).encode())

    def test_receipts(self):
        run = fx.small_run()
        line = run.lines[1]
        answer = self.verify(line)
        self.assertEqual((answer["exit"], answer["kind"], answer["run"]), (0, "receipt", fx.RUN))
        self.assertEqual(answer["verdicts"], verdicts("ok", "trusted"))
        run.key = fx.NEXT_KEY
        run.call()
        self.assertEqual(self.verify(run.lines[-1], fx.NEXT_KEY, fx.NEXT_KEY)["exit"], 0)
        self.refused(self.verify(line, kind=pef.TYPE_STATEMENT), "ENVELOPE_MALFORMED")
        self.refused(self.verify(line, edit=lambda d: d + b"\n"), "ENVELOPE_MALFORMED")
        self.refused(self.verify(line, fx.NEXT_KEY), "KEY_UNKNOWN")
        signature = fx.b64(fx.RECEIPT_KEY.sign(b"other")).encode()

        def other_signature(data):
            value = pef.admit(data)
            value["signatures"][0]["sig"] = signature.decode()
            return pef.canonical(value)

        self.refused(self.verify(line, edit=other_signature), "ENVELOPE_SIGNATURE")
        self.refused(self.verify(b""), "LINE_LENGTH")
        self.refused(self.verify(b"x"), "LINE_MALFORMED")
        self.refused(self.verify(b'{"seq":1}\n'), "LINE_NOT_CANONICAL", 1)
        self.refused(self.verify(b'{"seq":1}'), "LINE_SCHEMA", 1)
        self.refused(self.verify(line, fx.STRANGER, fx.STRANGER), "KEY_MISMATCH", 1)

    def test_keys_in_pem_and_base64(self):
        path = self.write("r", fx.envelope(fx.RECEIPT_KEY, pef.TYPE_ENTRY, fx.small_run().lines[1]))
        pem = fx.pem(fx.RECEIPT_KEY)
        for key in (pem, pem.replace("\n", "\r\n"), fx.b64(fx.RECEIPT_KEY.spki), fx.b64(fx.RECEIPT_KEY.spki) + "\n"):
            self.assertEqual(pef.verify_path(path, key=key.encode())["exit"], 0)
        for key in ("", "x", pem[:-30], pem.replace("PUBLIC", "PRIVATE"), "AAAA", "\u00e9"):
            answer = pef.verify_path(path, key=key.encode())
            self.assertEqual((answer["exit"], answer["reason"]), (6, "ARGUMENT_INVALID"))


# --- every change of every byte ---------------------------------------------------------------


class Sweeps(Folder):
    CODES = frozenset(
        "CONTAINER_LIMIT ENTRY_COMPRESSED PATH_FORBIDDEN ENTRY_DUPLICATE CONTAINER_MALFORMED FILE_MISSING "
        "MANIFEST_MALFORMED MANIFEST_SCHEMA KEY_ID_MISMATCH ALGORITHM_MISMATCH ENVELOPE_MALFORMED KEY_UNKNOWN "
        "ENVELOPE_SIGNATURE LINE_LENGTH LINE_MALFORMED LINE_NOT_CANONICAL LINE_SCHEMA SEQ_MISMATCH RUN_MISMATCH "
        "CHAIN_BROKEN KEY_MISMATCH TIME_REVERSED SIGNATURE_MISSING SIGNATURE_INVALID ROTATION_INVALID APPROVAL_INVALID SNAPSHOT_MISMATCH SEAL_NOT_LAST "
        "SEAL_MISSING SIGNATURE_SURPLUS SEAL_MISMATCH MANIFEST_MISMATCH CHECKPOINT_MALFORMED CHECKPOINT_MISMATCH "
        "CHECKPOINT_SIGNATURE FILE_UNLISTED FILE_DIGEST FILE_NAME_DIGEST POLICY_MISSING STATEMENT_MISMATCH "
        "SUMS_MISMATCH STREAM_MISMATCH BODY_MISSING EXTERNAL_UNKNOWN MISSING_EXTERNAL EXTERNAL_DIGEST "
        "ANCHOR_MALFORMED ANCHOR_MISMATCH ANCHOR_SIGNATURE CRC_MISMATCH SEGMENT_HEADER JOURNAL_TORN FRAME_INVALID "
        "INDEX_MISMATCH BLOB_MISMATCH JOURNAL_TRUNCATED JOURNAL_BEGINS_LATER BEGINNING_UNRECORDED".split()
    )

    def mutations(self, data, stride, full_stride=1):
        """Flips, deletions, duplications and truncations. -> (position, what, bytes)"""
        bits = range(8) if FULL else (0, 5)
        for at in range(0, len(data), full_stride if FULL else stride):
            for bit in bits:
                yield at, "flip %d" % bit, data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]
            yield at, "delete", data[:at] + data[at + 1 :]
            yield at, "duplicate", data[: at + 1] + data[at:]
            yield at, "truncate", data[:at]

    def check(self, answer, at, what):
        self.assertEqual(answer["exit"], 2, "%s at %d: %s" % (what, at, answer["detail"]))
        self.assertIn(answer["reason"], self.CODES)
        failed = [value for value in answer["verdicts"].values() if value in ("failed", "open")]
        self.assertEqual(len(failed), 1)

    def test_a_bundle(self):
        for sign in ("each", "checkpoint"):
            files = fx.small_bundle(sign).close()
            data = fx.zip_bytes(files)
            start = data.index(b"receipts.ndjson") + len(b"receipts.ndjson")
            while data[start : start + 20] != files["receipts.ndjson"][:20]:
                start = data.index(b"receipts.ndjson", start) + len(b"receipts.ndjson")
            inside = range(start, start + len(files["receipts.ndjson"]))
            for at, what, changed in self.mutations(data, 13):
                answer = pef.verify_path(self.write("b.pef.zip", changed))
                self.check(answer, at, what)
                if at in inside and what.startswith("flip") and not (sign == "checkpoint" and answer["seq"] is None):
                    self.assertIsNotNone(answer["seq"], "%s at %d: %s" % (what, at, answer["reason"]))

    def test_a_bundle_with_one_of_everything(self):
        data = fx.zip_bytes(fx.large_bundle().close())
        fx.write_folder(self.path("b.pef.zip.d"), {fx.digest(fx.FAR_BODY)[7:]: fx.FAR_BODY})
        for at, what, changed in self.mutations(data, 331, 17):
            self.check(pef.verify_path(self.write("b.pef.zip", changed)), at, what)

    def test_the_files_of_a_directory(self):
        files = fx.small_bundle().close()
        folder = self.path("b")
        for name, data in sorted(files.items()):
            for at, what, changed in self.mutations(data, 97, 11):
                shutil.rmtree(folder, ignore_errors=True)
                fx.write_folder(folder, dict(files, **{name: changed}))
                answer = pef.verify_path(folder)
                self.check(answer, at, what)
                if name == "receipts.ndjson":
                    self.assertIsNotNone(answer["seq"], what)

    def test_a_journal(self):
        # ends with an entry: that a last checkpoint frame was cut off nobody can see, and nothing is lost
        files = fx.small_journal(checkpoint_at_end=False).files()
        folder = self.path("j")
        fx.write_folder(folder, files)
        for name in sorted(files):
            if name == "trust.json":  # not evidence: the instance's own word about its keys
                continue
            for at, what, changed in self.mutations(files[name], 7):
                if changed.rstrip(b"\0") == files[name].rstrip(b"\0") and what == "duplicate":
                    continue  # one more zero byte after the last frame is no change
                with open(os.path.join(folder, name), "wb") as file:
                    file.write(changed)
                self.check(pef.verify_path(folder), at, "%s: %s" % (name, what))
            with open(os.path.join(folder, name), "wb") as file:
                file.write(files[name])


# --- the command ------------------------------------------------------------------------------


class Cli(Folder):
    NAMES = ["ok", "reason", "seq", "index", "verdicts", "run", "entries", "kind"]

    def setUp(self):
        super().setUp()
        self.files = fx.small_bundle().close()
        self.good = self.write("b.pef.zip", fx.zip_bytes(self.files))
        self.trust = self.write("trust.json", fx.trust_document())

    def call(self, *words):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = pef.main(list(words))
        return code, out.getvalue(), err.getvalue()

    def test_json_is_one_line_with_the_agreed_members(self):
        for path, code in ((self.good, 0), (self.write("x.zip", b""), 2), (self.path("none"), 6)):
            got, out, err = self.call("--json", path)
            self.assertEqual((got, err, out.count("\n")), (code, "", 1))
            answer = json.loads(out)
            self.assertEqual(list(answer), self.NAMES)
            self.assertEqual(answer["ok"], code == 0)
            self.assertEqual(sorted(answer["verdicts"]), ["anchoring", "authenticity", "completeness", "integrity"])

    def test_plain_words(self):
        code, out, _ = self.call(self.good)
        self.assertEqual(code, 0)
        self.assertIn("NOBODY HAS VOUCHED FOR THE KEYS", out)
        self.assertIn("Not proven", out)
        code, out, _ = self.call("--trust", self.trust, self.good)
        self.assertEqual(code, 0)
        self.assertNotIn("NOBODY", out)
        run = fx.small_run()
        run.lines[1] = run.lines[1].replace(b"crawler", b"crawlex")
        data = dict(self.files, **{"receipts.ndjson": b"".join(line + b"\n" for line in run.lines)})
        code, out, _ = self.call(self.write("c.pef.zip", fx.zip_bytes(data)))
        self.assertEqual(code, 2)
        self.assertIn("SIGNATURE_INVALID at entry seq 1", out)
        self.assertNotIn("VERIFIED", out)
        folder = self.path("j")
        journal = fx.small_journal()
        journal.raw(b"x")
        fx.write_folder(folder, journal.files())
        code, out, _ = self.call(folder)
        self.assertIn("JOURNAL_TORN at log index 5", out)

    def test_arguments(self):
        for words in (
            [], ["a", "b"], ["--nope", "a"], ["--trust"], ["--trust", "x"], ["--json"], ["--json=1", self.good],
            ["--trust", self.trust, "--trust", self.trust, self.good],
        ):  # fmt: skip
            code, out, err = self.call(*words)
            self.assertEqual((code, out), (6, ""), words)
            self.assertIn("usage", err)
        self.assertEqual(self.call("--help")[0], 0)
        self.assertEqual(self.call("--trust=" + self.trust, "--", self.good)[0], 0)
        for words in (
            [self.path("none")], ["--trust", self.path("none"), self.good], ["--schemas", self.dir, self.good],
            ["--key", self.trust, self.good], [self.trust], ["--key", self.trust, self.dir], ["/dev/null"], ["a\0b"],
            ["--trust", self.dir, self.good],
        ):  # fmt: skip
            code, out, err = self.call(*words)
            self.assertEqual((code, err), (6, ""), words)
            self.assertIn("NOT VERIFIED", out)

    @unittest.skipIf(os.name != "posix" or os.geteuid() == 0, "everything can be read")
    def test_no_permission(self):
        os.chmod(self.good, 0)
        self.assertEqual(self.call(self.good)[0], 6)

    def test_as_a_program_from_anywhere(self):
        for argv in ([PROGRAM, self.good], ["-I", PROGRAM, "--json", self.good]):
            done = subprocess.run([sys.executable] + argv, cwd=self.dir, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            self.assertEqual((done.returncode, done.stderr), (0, b""))
        before = {name: os.stat(self.path(name)).st_mtime_ns for name in os.listdir(self.dir)}
        subprocess.run([sys.executable, PROGRAM, self.good], stdout=subprocess.PIPE, check=True)
        self.assertEqual(before, {name: os.stat(self.path(name)).st_mtime_ns for name in os.listdir(self.dir)})

    def test_schemas_beside_the_program(self):
        alone = self.path("alone")
        os.mkdir(alone)
        shutil.copy(PROGRAM, alone)
        program = os.path.join(alone, "pef_verify.py")
        done = subprocess.run([sys.executable, program, self.good], stdout=subprocess.PIPE)
        self.assertEqual(done.returncode, 6)
        shutil.copytree(HERE.parent.parent / "pef" / "schemas", os.path.join(alone, "schemas"))
        done = subprocess.run([sys.executable, program, self.good], stdout=subprocess.PIPE)
        self.assertEqual(done.returncode, 0)

    def test_an_internal_error_has_no_traceback(self):
        def broken(*_args, **_options):
            raise RecursionError

        kept, pef.verify_path = pef.verify_path, broken
        try:
            code, out, err = self.call(self.good)
        finally:
            pef.verify_path = kept
        self.assertEqual((code, out), (1, ""))
        self.assertTrue(err.startswith("internal error: RecursionError"))

    def test_only_the_standard_library(self):
        if not hasattr(sys, "stdlib_module_names"):
            self.skipTest("this Python does not list its modules")
        source = pathlib.Path(PROGRAM).read_text("utf-8")
        names = [line.split()[1] for line in source.splitlines() if line.startswith(("import ", "from "))]
        self.assertLessEqual(set(names), set(sys.stdlib_module_names))


if __name__ == "__main__":
    unittest.main()
