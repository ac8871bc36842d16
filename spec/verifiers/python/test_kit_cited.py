"""The second reading of custody, archive and ledger answers as their vectors say."""

import base64
import json
import os
import unittest

import kit_cited
import pef_verify

SPEC = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
# Of E1, by names of files, only `estoppel` says something; another genesis is the reader's to name.
LEFT_OUT = {"a file under another name", "half a file under its name", "another beginning than is trusted"}


def vectors(name):
    with open(os.path.join(SPEC, name + "-vectors.json"), encoding="utf-8") as file:
        return json.load(file)


def code(judge):
    try:
        judge()
    except kit_cited.Wrong as wrong:
        return wrong.code
    return None


class Vectors(unittest.TestCase):
    def test_lists_of_custody(self):
        of = vectors("custody")
        manifest = of["of"]["manifest"].encode()
        stated = json.loads(manifest)
        run = {"archive": of["of"]["bundle"], "iss": stated["iss"], "run": stated["run"], "sealed": stated["sealed"]}
        schemas = pef_verify.find_schemas()
        for case in of["cases"]:
            given = case.get("given", {})
            heads = given.get("heads", [])

            def judge():
                chain = kit_cited.Custody(schemas, case["list"].encode())
                if given.get("signers"):
                    chain.signed_by([pef_verify.Key(pef_verify.unbase64(key)).kid for key in given["signers"]])
                chain.hold(run, kit_cited.sha256(manifest), [(row["bytes"], row["sha256"]) for row in given.get("archived", [])])
                if not set(heads) <= set(chain.leaves()):
                    raise kit_cited.Wrong("CUSTODY_CUT", "a head is not there")

            with self.subTest(case["name"]):
                self.assertEqual(code(judge), case["result"].get("code"))

    def test_indexes_of_archives(self):
        for case in vectors("archive")["cases"]:
            with self.subTest(case["name"]):
                self.assertEqual(code(lambda: kit_cited.Archive(case["list"].encode(), [])), case["result"].get("code"))

    def test_ledgers(self):
        names = ("ledger", "ledger-release", "ledger-ladder", "ledger-commit", "ledger-count", "ledger-lapse")
        # Of two of one name that of the later file counts.
        every = {vector["name"]: vector for name in names for vector in vectors(name)["vectors"]}
        seen = {}
        for vector in every.values():
            wanted = vector["expect"].get("code")
            if vector["name"] in LEFT_OUT:
                continue
            events = ordered([json.loads(file["text"]) for file in vector["files"]])
            ids = {event_id(event) for event in events}
            heads = sorted(ids - {parent for event in events for parent in payload(event)["parents"]})
            head = kit_cited.sha256("".join(name + "\n" for name in heads).encode())
            document = {"events": events, "format": "estoppel-audit/1", "head": head, "heads": heads}
            document.update({"from": None, "genesis": vector["genesis"] or kit_cited.sha256(b""), "rows": [], "to": None})
            data = kit_cited.written(document).encode() + b"\n"
            with self.subTest(vector["name"]):
                self.assertEqual(code(lambda: kit_cited.Ledger(data)), wanted)
                if wanted is None:
                    row = kit_cited.Ledger(data).row
                    self.assertEqual((row["events"], row["head"]), (vector["expect"]["events"], vector["expect"]["head"]))
                seen[wanted] = seen.get(wanted, 0) + 1
        self.assertTrue(seen[None] >= 25 and seen["LEDGER_CONFLICT"] >= 60 and sum(seen.values()) >= 110, seen)

    def test_events_of_another_form(self):
        """E2, which is said before any signature is looked at."""
        vector = next(one for one in vectors("ledger")["vectors"] if "code" not in one["expect"])
        for what, change in {
            "another version": lambda event: event.update(v=False),
            "a member more": lambda event: event.update(certified="yes"),
            "a member more of its body": lambda event: event["body"].update(certified="yes"),
            "no host": lambda event: event.update(host=None),
            "a day for a time": lambda event: event.update(at=event["at"][:10]),
            "a list for a body": lambda event: event.update(body=[]),
        }.items():
            with self.subTest(what):
                envelope = json.loads(vector["files"][0]["text"])
                event = payload(envelope)
                change(event)
                envelope["payload"] = base64.b64encode(kit_cited.written(event).encode()).decode()
                export = {"events": [envelope], "format": "estoppel-audit/1", "from": None, "genesis": event_id(envelope)}
                export.update(head=event_id(envelope), heads=[event_id(envelope)], rows=[], to=None)
                data = kit_cited.written(export).encode() + b"\n"
                self.assertEqual(code(lambda: kit_cited.Ledger(data)), "LEDGER_EVENT_INVALID")


def payload(event):
    return json.loads(pef_verify.unbase64(event["payload"]))


def event_id(event):
    return kit_cited.sha256(kit_cited.written(event).encode())


def ordered(events):
    """Each after those of its parents that are there."""
    left, done, ids = list(events), [], {event_id(event) for event in events}
    while left:
        known = {event_id(event) for event in done}
        ready = next(event for event in left if not (set(payload(event)["parents"]) & ids) - known)
        left.remove(ready)
        done.append(ready)
    return done


if __name__ == "__main__":
    unittest.main()
