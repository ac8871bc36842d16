"""Writes spec/replay-vectors.json, from spec/replay.md alone: certificates about a published bundle, and what a reader must answer.

Run it with --check to see that it is what it writes.
"""

import copy
import json
import pathlib
import sys
import zipfile

import pef

SPEC = pathlib.Path(__file__).resolve().parents[2] / "spec"
BUNDLE = "pef/vectors/valid-etl/bundle.pef.zip"
KEY = pef.key("manifest", 9)


def digest(text):
    return pef.content(text.encode())


def read():
    with zipfile.ZipFile(SPEC / BUNDLE) as box:
        manifest = box.read("manifest.json")
        entries = [json.loads(line) for line in box.read("receipts.ndjson").splitlines()]
    return manifest, [entry for entry in entries if entry["kind"] == "call"]


MANIFEST, CALLS = read()


def at(place):
    return {"call": CALLS[place]["call"], "seq": CALLS[place]["seq"]}


def tolerated(place, pointer, by, **more):
    row = at(place) | {"at": pointer, "by": by, "part": "request", "recorded": digest("1"), "found": digest("2")}
    return row | more


def good():
    stated = json.loads(MANIFEST)
    tree = stated["tree"]
    return {
        "bodies_by": "tag",
        "bundle": {"manifest": pef.content(MANIFEST), "root": tree["root"], "run": stated["run"], "size": tree["size"]},
        "clock": "system",
        "counts": {
            "drift": [{"code": "ARG_DRIFT", "count": 1}], "matched": 2, "miss": 0, "missing": 0, "recorded": 3,
            "reordered": 0, "skipped": [], "tolerated": 2, "truncated": 0,
        },
        "determinism": {
            "differences": 3, "from": "file", "policy": digest("a policy"),
            "tolerated": [tolerated(2, "/a~1b", "absolute"), tolerated(2, "", "ignored"), tolerated(0, "/a~1b/0", "any_order")],
        },
        "divergences": [
            at(1) | {
                "at": ["/n", "/m~0"],
                "beyond": [
                    {"at": "/n", "by": "0.25", "of": "absolute", "within": "0.01"},
                    {"at": "/m~0", "by": "12e-30", "of": "relative", "within": "0.5"},
                ],
                "code": "ARG_DRIFT",
            },
        ],
        "divergences_more": 0,
        "finished": "2026-11-22T06:00:01.000000Z",
        "first_divergent_seq": CALLS[1]["seq"],
        "id": "0199a7c0-0000-7000-8000-000000000002",
        "key": {"alg": KEY.alg, "kid": KEY.kid, "spki": pef.b64(KEY.spki)},
        "matching": "lenient",
        "mode": "stub",
        "policies": stated["policies"],
        "reasons": ["ARG_DRIFT", "TOLERATED"],
        "side": "client",
        "started": "2026-11-22T06:00:00.000000Z",
        "status": "failed",
        "tool": {"digest": digest("a tool"), "name": "estoppel", "version": "0.1.0"},
        "upstream_connections": 0,
        "v": "replay/v0",
    }


def live(said):
    """The same, of calls that were made again."""
    said |= {"matching": "strict", "mode": "live"}
    del said["side"]
    said["live"] = {"sent": 3, "tools": ["a", "b"], "upstream": "http://127.0.0.1:1"}
    said["counts"]["drift"][0]["code"] = said["divergences"][0]["code"] = said["reasons"][0] = "ANSWER_DRIFT"
    for row in said["determinism"]["tolerated"]:
        row["part"] = "answer"


def plain(said, operations=("GET a", "a")):
    """The same, of a plain API."""
    live(said)
    del said["live"]["tools"]
    said["live"]["operations"] = list(operations)


def skipped(said, code):
    """One step more, that was not made again."""
    said["counts"]["skipped"] = [{"code": code, "count": 1}]
    said["counts"]["recorded"] += 1
    said["reasons"] = sorted([*said["reasons"], code])


def judged(said):
    """The same, of calls that were judged again."""
    said |= {"matching": "strict", "mode": "judge", "reasons": ["ANSWER_DRIFT"]}
    del said["side"], said["determinism"]
    said["counts"]["tolerated"] = 0
    said["counts"]["drift"][0]["code"] = said["divergences"][0]["code"] = "ANSWER_DRIFT"


def cases():
    status, schema = "CERTIFICATE_STATUS", "CERTIFICATE_SCHEMA"
    made = []

    def case(name, change, code=None):
        said = copy.deepcopy(good())
        change(said)
        made.append((name, said, code))

    def rows(said):
        return said["determinism"]["tolerated"]

    def beyond(said):
        return said["divergences"][0]["beyond"]

    case("holds", lambda said: rows(said).pop(1) and said["determinism"].update(differences=2))
    case("holds-by-the-root-alone", lambda said: rows(said).pop(0) and said["determinism"].update(differences=2))
    case("one-below-the-other", lambda said: None, status)

    def apart(said):
        rows(said)[1]["at"] = "/c"

    def then(change):
        def both(said):
            apart(said)
            change(said)

        return both

    def within(name, change, code=status):
        case(name, then(change), code)

    within("holds-with-two-of-one-step", lambda said: None, None)
    within("ended-when-it-began", lambda said: said.update(finished=said["started"]), None)
    within("ended-before-it-began", lambda said: said.update(finished="2026-11-22T05:59:59.999999Z"))
    for name, moment in (
        ("month-13", "2026-13-01T00:00:00.000000Z"), ("month-0", "2026-00-01T00:00:00.000000Z"), ("30-february", "2026-02-30T00:00:00.000000Z"),
        ("29-february-2027", "2027-02-29T00:00:00.000000Z"), ("day-0", "2026-11-00T00:00:00.000000Z"), ("31-april", "2026-04-31T00:00:00.000000Z"),
        ("29-february-2100", "2100-02-29T00:00:00.000000Z"), ("24-o-clock", "2026-11-23T24:00:00.000000Z"), ("minute-60", "2026-11-23T00:60:00.000000Z"),
        ("second-60", "2026-12-31T23:59:60.000000Z"),
    ):  # fmt: skip
        within("no-such-time-" + name, lambda said, moment=moment: said.update(finished=moment))
    within("29-february-2028", lambda said: said.update(finished="2028-02-29T23:59:59.999999Z"), None)
    within("began-at-no-time", lambda said: said.update(started="0000-00-00T00:00:00.000000Z"))

    for name, pointer in (("no-slash", "a"), ("a-tilde-alone", "/a~"), ("a-tilde-two", "/a~2"), ("a-dollar", "$.a")):
        within("tolerated-at-" + name, lambda said, pointer=pointer: rows(said)[0].update(at=pointer))
        within("diverges-at-" + name, lambda said, pointer=pointer: said["divergences"][0].update(at=[pointer], beyond=[beyond(said)[0] | {"at": pointer}]))
    within("tolerated-twice", lambda said: rows(said)[1].update(at=rows(said)[0]["at"]))
    within("tolerated-below", lambda said: rows(said)[1].update(at=rows(said)[0]["at"] + "/0"))
    within("tolerated-beside", lambda said: rows(said)[1].update(at=rows(said)[0]["at"] + "0"), None)
    within("tolerated-not-together", lambda said: rows(said).insert(1, rows(said).pop()))
    within("tolerated-of-another-call", lambda said: rows(said)[1].update(call=CALLS[0]["call"]))
    within("tolerated-and-diverged", lambda said: rows(said)[2].update(at(1)))

    def reordered(said):
        said["counts"]["reordered"] = 1
        said["reasons"].insert(1, "REORDERED")
        said["divergences"].append(at(2) | {"code": "REORDERED"})

    within("tolerated-and-reordered", reordered, None)

    def twice(said):
        reordered(said)
        said["counts"]["reordered"] = 2
        said["divergences"].append(at(2) | {"code": "REORDERED"})

    within("diverged-twice", twice)
    within("diverges-twice-at-one-place", lambda said: said["divergences"][0]["at"].append("/n"))
    within("beyond-twice-at-one-place", lambda said: beyond(said).append(beyond(said)[0]))
    for name, by in (
        ("nothing", "0"), ("nothing-at-all", "0.00"), ("nothing-with-an-exponent", "0e5"), ("less-than-nothing", "-1"), ("no-number", "NaN"), ("infinity", "inf"),
        ("a-sign", "+1"), ("a-blank", " 1"), ("no-whole", ".5"), ("no-fraction", "1."), ("hex", "0x1"), ("two-points", "1.2.3"), ("no-exponent", "1e"),
        ("another-script", "١"), ("an-exponent-without-bounds", "1e99999999999999999999"),
    ):  # fmt: skip
        within("beyond-by-" + name, lambda said, by=by: beyond(said)[0].update(by=by))
        within("relative-beyond-by-" + name, lambda said, by=by: beyond(said)[1].update(by=by))
    for name, by in (("what-is-tolerated", "0.01"), ("what-is-tolerated-written-otherwise", "1e-2"), ("less", "0.0099")):
        within("beyond-by-" + name, lambda said, by=by: beyond(said)[0].update(by=by))
    for name, by in (("a-little-more", "0.010000001"), ("more", "1"), ("much-more", "1e40"), ("more-in-tenths", "11e-3")):
        within("beyond-by-" + name, lambda said, by=by: beyond(said)[0].update(by=by), None)
    within("relative-by-less-than-its-part", lambda said: beyond(said)[1].update(by="0.1"), None)
    within("beyond-by-what-nobody-computes", lambda said: beyond(said)[0].pop("by"), None)
    for name, amount in (("no-number", "NaN"), ("a-sign", "-1"), ("an-exponent", "1e3"), ("zeros", "0.50"), ("no-whole", ".5")):
        within("tolerance-is-" + name, lambda said, amount=amount: beyond(said)[0].update(within=amount))
    within("tolerance-is-nothing", lambda said: beyond(said)[0].update(within="0"), None)
    within("kind-of-tolerance-unknown", lambda said: beyond(said)[0].update(of="ignored"), schema)

    within("live-calls-of-a-run-that-has-none", live, "CERTIFICATE_MISMATCH")
    within("judged", lambda said: (judged(said), said["divergences"][0].pop("beyond")), None)
    within("judged-beyond-a-tolerance", judged)
    for name, tools in (("twice", ["a", "a"]), ("in-another-order", ["b", "a"])):
        within("tools-" + name, lambda said, tools=tools: (live(said), said["live"].update(tools=tools)))
        within("operations-" + name, lambda said, tools=tools: plain(said, tools))
    within("operations-of-a-run-that-has-none", plain, "CERTIFICATE_MISMATCH")
    within("operations-whose-bodies-are-held-against-digests", lambda said: (plain(said), said.update(bodies_by="digest")))
    within("operations-beside-tools", lambda said: (plain(said), said["live"].update(tools=["a"])))
    within("neither-operations-nor-tools", lambda said: (live(said), said["live"].pop("tools")))
    within("tools-and-an-operation-that-was-not-allowed", lambda said: (live(said), skipped(said, "OPERATION_NOT_ALLOWED")))
    within("operations-and-a-tool-that-was-not-allowed", lambda said: (plain(said), skipped(said, "TOOL_NOT_ALLOWED")))
    return made


def certificate(said):
    statement = {
        "_type": "https://in-toto.io/Statement/v1", "predicate": said, "predicateType": "urn:estoppel:replay:v0",
        "subject": [{"digest": {"sha256": pef.sha_hex(MANIFEST)}, "name": "manifest.json"}],
    }
    return pef.canonical(pef.envelope(pef.PAE_STATEMENT, pef.canonical(statement), KEY)).decode()


def result(code):
    return {"ok": True} if code is None else {"ok": False, "code": code}


def main():
    rows = [{"name": name, "certificate": certificate(said), "result": result(code)} for name, said, code in cases()]
    document = {"format": "estoppel-replay-vectors/1", "bundle": BUNDLE, "cases": rows}
    text = json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    path = SPEC / "replay-vectors.json"
    if "--check" not in sys.argv:
        path.write_text(text)
    elif not path.exists() or path.read_text() != text:
        sys.exit("not what make_replay_vectors.py writes")


if __name__ == "__main__":
    main()
