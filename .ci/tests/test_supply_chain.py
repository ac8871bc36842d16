"""The supply-chain gate refuses what it says it refuses."""

import contextlib
import datetime
import io
import json
import pathlib
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import supply_chain as gate

TODAY = datetime.date(2026, 11, 21)
DENY = {
    "licenses": {"allow": ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-3-Clause"]},
    "bans": {
        "deny": [{"crate": "openssl", "reason": "no"}],
        "deny-direct": [{"crate": "ring", "reason": "no"}],
        "single": ["sha2"],
    },
    "sources": {"allow": ["registry"]},
}


def graph(members, others=(), edges=()):
    """members: {name: [direct dependency]}; others: (name, version, licence[, source]); edges: (from, to, kind)."""
    packages, ids = [], {}
    for name, direct in members.items():
        ids[name] = f"path#{name}"
        packages.append(
            {
                "id": ids[name],
                "name": name,
                "version": "0.1.0",
                "source": None,
                "license": "Apache-2.0",
                "dependencies": [{"name": dep} for dep in direct],
            }
        )
    for name, version, licence, *source in others:
        id = ids[f"{name}@{version}"] = f"registry#{name}@{version}"
        packages.append(
            {
                "id": id,
                "name": name,
                "version": version,
                "license": licence,
                "dependencies": [],
                "source": source[0] if source else "registry+index",
            }
        )
    nodes = {id: [] for id in ids.values()}
    for start, end, kind in edges:
        nodes[ids[start]].append({"pkg": ids[end], "dep_kinds": [{"kind": kind}]})
    return gate.Graph(
        {
            "packages": packages,
            "workspace_members": [ids[name] for name in members],
            "resolve": {"nodes": [{"id": id, "deps": deps} for id, deps in nodes.items()]},
        }
    )


def findings(rule, *args, **kwargs):
    with contextlib.redirect_stdout(io.StringIO()):
        return list(rule(*args, **kwargs))


def licensed(expression, deny=DENY):
    return findings(gate.licences, graph({"ours": []}, [("x", "1.0.0", expression)]), deny, TODAY)


class Program(unittest.TestCase):
    def program(self, fixture, *more):
        out = io.StringIO()
        argv = [
            "--metadata",
            str(HERE / "fixtures" / fixture),
            "--index",
            str(HERE / "none"),
            "--today",
            str(TODAY),
            *map(str, more),
        ]
        with contextlib.redirect_stdout(out):
            code = gate.main(argv)
        return code, out.getvalue()

    def test_passes_a_clean_graph(self):
        code, out = self.program("clean.metadata.json")
        self.assertEqual(code, 0, out)
        self.assertIn("0 refused", out)

    def test_fails_on_a_gpl_crate_brought_in_by_another(self):
        code, out = self.program("gpl.metadata.json")
        self.assertEqual(code, 1)
        self.assertIn("refused: copyleft 2.1.0: licence `GPL-3.0-only` is not allowed", out)

    def test_fails_on_an_expired_exception_though_the_graph_is_clean(self):
        with tempfile.TemporaryDirectory() as directory:
            deny = pathlib.Path(directory) / "deny.toml"
            real = (HERE.parent.parent / "deny.toml").read_text()
            deny.write_text(
                real + '[[licenses.exceptions]]\ncrate = "x"\nallow = []\nexpires = 2026-11-20\nreason = "r"\n'
            )
            code, out = self.program("clean.metadata.json", "--deny", deny)
        self.assertEqual(code, 1)
        self.assertIn("refused: licence exception for x expired on 2026-11-20: r", out)

    def test_says_what_it_could_not_learn_of_yanked_versions(self):
        self.assertIn("yanked: not assessed: plain", self.program("clean.metadata.json")[1])


class Licences(unittest.TestCase):
    def test_one_allowed_side_of_or_is_enough(self):
        self.assertEqual(licensed("GPL-2.0-only OR MIT"), [])
        self.assertEqual(licensed("MIT/GPL-2.0"), [])

    def test_both_sides_of_and_are_needed(self):
        self.assertEqual(licensed("MIT AND BSD-3-Clause"), [])
        self.assertTrue(licensed("MIT AND GPL-2.0-only"))

    def test_and_binds_tighter_than_or(self):
        self.assertEqual(licensed("MIT OR Apache-2.0 AND GPL-3.0-only"), [])
        self.assertTrue(licensed("(MIT OR Apache-2.0) AND GPL-3.0-only"))

    def test_with_is_part_of_the_id(self):
        self.assertEqual(licensed("Apache-2.0 WITH LLVM-exception"), [])
        self.assertTrue(licensed("MIT WITH Classpath-exception-2.0"))

    def test_or_later_is_met_by_the_version_itself(self):
        self.assertEqual(licensed("Apache-2.0+"), [])
        self.assertTrue(licensed("GPL-2.0+"))

    def test_ids_are_compared_without_case(self):
        self.assertEqual(licensed("mit or APACHE-2.0"), [])

    def test_no_expression_is_refused(self):
        self.assertTrue(licensed(None))

    def test_what_is_not_an_expression_is_refused(self):
        for text in ("MIT OR", "(MIT", "MIT)", "OR MIT", "MIT Apache-2.0", "MIT, Apache-2.0", "()", " "):
            with self.subTest(text):
                self.assertIn("not an SPDX expression", licensed(text)[0])

    def test_an_exception_is_for_one_crate(self):
        row = {"crate": "x", "allow": ["MPL-2.0"], "expires": datetime.date(2027, 1, 1), "reason": "r"}
        deny = DENY | {"licenses": DENY["licenses"] | {"exceptions": [row]}}
        self.assertEqual(licensed("MPL-2.0", deny), [])
        row["crate"] = "y"
        self.assertTrue(licensed("MPL-2.0", deny))

    def test_an_expired_exception_fails_even_when_unused(self):
        row = {"crate": "y", "allow": ["MPL-2.0"], "expires": datetime.date(2026, 11, 20), "reason": "r"}
        deny = DENY | {"licenses": DENY["licenses"] | {"exceptions": [row]}}
        self.assertIn("expired on 2026-11-20", licensed("MIT", deny)[0])
        row["expires"] = TODAY
        self.assertEqual(licensed("MIT", deny), [])

    def test_an_exception_without_a_date_fails(self):
        deny = DENY | {"licenses": DENY["licenses"] | {"exceptions": [{"crate": "y", "allow": []}]}}
        self.assertIn("no `expires` date", licensed("MIT", deny)[0])


class Bans(unittest.TestCase):
    def bans(self, graph):
        return findings(gate.bans, graph, DENY, TODAY)

    def test_a_banned_crate_is_found_deep_in_the_graph(self):
        deep = graph({"ours": ["a"]}, [("a", "1.0.0", "MIT"), ("openssl", "0.10.0", "MIT")])
        self.assertEqual(self.bans(deep), ["openssl 0.10.0 is banned: no"])

    def test_a_crate_banned_as_direct_may_come_through_others(self):
        self.assertEqual(self.bans(graph({"ours": ["a"]}, [("a", "1.0.0", "MIT"), ("ring", "0.17.14", "MIT")])), [])
        self.assertEqual(self.bans(graph({"ours": ["ring"]})), ["ours depends on ring directly: no"])

    def test_a_git_source_is_refused(self):
        git = graph({"ours": []}, [("a", "1.0.0", "MIT", "git+somewhere")])
        self.assertEqual(findings(gate.sources, git, DENY, TODAY), ["a 1.0.0 comes from a git source"])


class Doubles(unittest.TestCase):
    TWO = [("sha2", "0.10.9", "MIT"), ("sha2", "0.11.1", "MIT"), ("a", "1.0.0", "MIT")]

    def doubles(self, members, edges):
        return findings(gate.doubles, graph(members, self.TWO, edges), DENY, TODAY)

    def test_two_versions_in_what_is_shipped_are_refused(self):
        edges = [("ours", "sha2@0.11.1", None), ("ours", "a@1.0.0", None), ("a@1.0.0", "sha2@0.10.9", None)]
        self.assertEqual(self.doubles({"ours": []}, edges), ["sha2 is in what we ship 2 times: 0.10.9, 0.11.1"])

    def test_a_second_version_for_tests_is_allowed(self):
        edges = [("ours", "sha2@0.11.1", None), ("ours", "a@1.0.0", "dev"), ("a@1.0.0", "sha2@0.10.9", None)]
        self.assertEqual(self.doubles({"ours": []}, edges), [])

    def test_a_member_that_only_tests_use_is_not_shipped(self):
        edges = [("ours", "sha2@0.11.1", None), ("ours", "kit", "dev"), ("kit", "sha2@0.10.9", None)]
        self.assertEqual(self.doubles({"ours": [], "kit": []}, edges), [])

    def test_a_member_that_is_used_for_both_is_shipped(self):
        edges = [
            ("ours", "sha2@0.11.1", None),
            ("ours", "stub", "dev"),
            ("other", "stub", None),
            ("stub", "sha2@0.10.9", None),
        ]
        self.assertEqual(len(self.doubles({"ours": [], "other": [], "stub": []}, edges)), 1)


class Versions(unittest.TestCase):
    def test_order_is_that_of_semantic_versioning(self):
        rising = [
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0-rc.1",
            "1.0.0",
            "1.0.1",
            "1.2.0",
            "1.10.0",
            "2.0.0",
        ]
        self.assertEqual(sorted(reversed(rising), key=gate.version_key), rising)

    def test_build_metadata_does_not_count(self):
        self.assertEqual(gate.version_key("1.2.3+abc"), gate.version_key("1.2.3"))

    def test_ranges(self):
        self.assertTrue(gate.in_range("0.23.45", ">=0.23.13, <0.23.46"))
        self.assertFalse(gate.in_range("0.23.46", ">=0.23.13, <0.23.46"))
        self.assertFalse(gate.in_range("0.23.12", ">=0.23.13, <0.23.46"))
        self.assertTrue(gate.in_range("1.9.9", "<2"))
        self.assertTrue(gate.in_range("9.9.9", "*"))
        with self.assertRaises(ValueError):
            gate.in_range("1.0.0", "^1")


class Advisories(unittest.TestCase):
    KNOWN = [{"id": "A-1", "crate": "x", "affected": ["<1.5.0"], "title": "t"}]

    def found(self, version, deny=DENY):
        return findings(gate.advisories, graph({"ours": []}, [("x", version, "MIT")]), deny, TODAY, self.KNOWN)

    def test_an_affected_version_is_refused(self):
        self.assertEqual(self.found("1.4.9"), ["x 1.4.9: A-1, t"])
        self.assertEqual(self.found("1.5.0"), [])

    def test_ignoring_one_needs_a_date_that_has_not_passed(self):
        def deny(**row):
            return DENY | {"advisories": {"ignore": [{"id": "A-1", "reason": "r"} | row]}}

        self.assertEqual(self.found("1.4.9", deny(expires=datetime.date(2027, 1, 1))), [])
        self.assertTrue(self.found("1.4.9", deny(expires=datetime.date(2026, 1, 1))))
        self.assertTrue(self.found("1.4.9", deny()))

    def test_every_row_of_the_real_list_can_be_read(self):
        import tomllib

        rows = tomllib.loads((HERE.parent / "advisories.toml").read_text())["advisory"]
        self.assertEqual(len({row["id"] for row in rows}), len(rows))
        for row in rows:
            self.assertIn(row["basis"], ("read", "reported"))
            self.assertTrue(row["title"])
            for affected in row["affected"]:
                gate.in_range("1.0.0", affected)


class Yanked(unittest.TestCase):
    def cache(self, directory, *rows):
        path = pathlib.Path(directory) / ".cache" / gate.index_file("serde")
        path.parent.mkdir(parents=True)
        body = b"".join(
            vers.encode() + b"\0" + json.dumps({"vers": vers, "yanked": y}).encode() + b"\0" for vers, y in rows
        )
        path.write_bytes(b"\x03" + b"\x02\0\0\0" + b"revision\0" + body)
        return [pathlib.Path(directory)]

    def yanked(self, rows, version):
        with tempfile.TemporaryDirectory() as directory:
            indexes = self.cache(directory, *rows)
            return findings(gate.yanked, graph({"ours": []}, [("serde", version, "MIT")]), indexes)

    def test_a_yanked_version_is_refused(self):
        rows = [("1.0.0", False), ("1.0.1", True)]
        self.assertEqual(self.yanked(rows, "1.0.1"), ["serde 1.0.1 is yanked"])
        self.assertEqual(self.yanked(rows, "1.0.0"), [])

    def test_a_version_that_the_cache_does_not_have_is_not_assessed(self):
        out = io.StringIO()
        with contextlib.redirect_stdout(out), tempfile.TemporaryDirectory() as directory:
            list(
                gate.yanked(graph({"ours": []}, [("serde", "9.9.9", "MIT")]), self.cache(directory, ("1.0.0", False)))
            )
        self.assertIn("known of 0 of 1", out.getvalue())

    def test_what_is_not_assessed_is_refused_where_everything_is_required(self):
        unknown = graph({"ours": []}, [("serde", "1.0.0", "MIT")])
        self.assertEqual(len(findings(gate.yanked, unknown, [], True)), 1)
        self.assertEqual(findings(gate.yanked, unknown, []), [])

    def test_another_form_of_cache_gives_nothing(self):
        self.assertEqual(gate.read_index(b"\x04\0\0\0\0r\0" + b"1.0.0\0{}\0"), {})
        self.assertEqual(gate.read_index(b""), {})

    def test_index_paths(self):
        self.assertEqual(
            [gate.index_file(name) for name in ("a", "ab", "abc", "serde_json", "Inflector")],
            ["1/a", "2/ab", "3/a/abc", "se/rd/serde_json", "in/fl/inflector"],
        )


if __name__ == "__main__":
    unittest.main()
