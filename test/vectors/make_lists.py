"""Writes spec/archive-vectors.json and spec/custody-vectors.json, from spec/archive.md and spec/custody.md alone.

Run it with --check to see that both are what it writes.
"""

import base64
import json
import pathlib
import sys

import pef

SPEC = pathlib.Path(__file__).resolve().parents[2] / "spec"
BUNDLE, MANIFEST = b"a bundle", pef.canonical({"iss": "gw.local/main/1", "run": "0199a7c0-0000-7000-8000-000000000001",
                                               "sealed": "2026-11-22T05:00:00.000000Z"})
RUN = "0199a7c0-0000-7000-8000-000000000001"


def leaf(line):
    return "leaf:" + pef.leaf(line).hex()


def listed(lines):
    return b"".join(line + b"\n" for line in lines).decode()


def pointer(content=BUNDLE, **members):
    at = {
        "bucket": "evidence", "bytes": len(content), "endpoint": "https://s3.example", "legal_hold": False,
        "key": "gw/sha256/" + pef.sha_hex(content), "mode": "COMPLIANCE", "retain_until": "2027-11-22T05:00:00.000000Z",
        "sha256": pef.content(content), "version": "v1",
    }
    return at | members


def entries(*changes):
    lines = []
    for seq, change in enumerate(changes):
        entry = pointer() | {"kind": "bundle", "name": f"{seq}.pef.zip", "seq": seq, "ts": "2026-11-22T05:00:01.000000Z", "v": "archive/v0"}
        if seq:
            entry["prev"] = leaf(lines[-1])
        entry |= change
        lines.append(pef.canonical({name: value for name, value in entry.items() if value is not None}))
    return lines


def index_cases():
    good = entries({}, {"kind": "segment", "name": "00000000000000000000.seg", "mode": "GOVERNANCE", "legal_hold": True},
                   {"kind": "external", "name": "0.pef.zip"}, {"kind": "custody", "name": "0.pef.zip.custody.ndjson"})
    yield "empty", "", None
    yield "four-kinds", listed(good), None
    yield "no-line-feed-at-the-end", listed(good)[:-1], ("ARCHIVE_FORM", None)
    yield "empty-line", listed([good[0], b"", good[1]]), ("ARCHIVE_FORM", None)
    yield "line-too-long", listed([good[0][:-1] + b" " * 16_384 + b"}"]), ("ARCHIVE_FORM", None)
    yield "not-canonical", listed([good[0].replace(b":", b": ", 1)]), ("ARCHIVE_SCHEMA", 0)
    yield "unknown-member", listed(entries({"also": 1})), ("ARCHIVE_SCHEMA", 0)
    yield "no-version", listed(entries({"version": None})), ("ARCHIVE_SCHEMA", 0)
    yield "name-leads-elsewhere", listed(entries({"name": "../0.pef.zip"})), ("ARCHIVE_SCHEMA", 0)
    yield "name-is-absolute", listed(entries({"name": "/etc/passwd"})), ("ARCHIVE_SCHEMA", 0)
    yield "name-has-a-folder", listed(entries({"name": "a/b"})), ("ARCHIVE_SCHEMA", 0)
    yield "retention-with-a-fraction", listed(entries({"retain_until": "2027-11-22T05:00:00.500000Z"})), ("ARCHIVE_SCHEMA", 0)
    yield "altered", listed([good[0].replace(b"2027", b"2028"), *good[1:]]), ("ARCHIVE_CHAIN", 1)
    yield "cut-at-the-beginning", listed(good[1:]), ("ARCHIVE_CHAIN", 0)
    yield "cut-in-the-middle", listed([good[0], good[2]]), ("ARCHIVE_CHAIN", 1)
    yield "reordered", listed([good[0], good[2], good[1], good[3]]), ("ARCHIVE_CHAIN", 1)
    yield "twice", listed([good[0], good[0]]), ("ARCHIVE_CHAIN", 1)
    yield "first-names-one-before-it", listed(entries({"prev": "leaf:" + "0" * 64})), ("ARCHIVE_CHAIN", 0)
    yield "key-of-other-content", listed(entries({"key": "gw/sha256/" + pef.sha_hex(b"other")})), ("ARCHIVE_KEY", 0)


def signer(number, alg=pef.ED25519):
    return pef.key("manifest", number, alg)


ADA, BO = signer(7), signer(8, pef.P256)


def act(action, by=ADA, **members):
    facts = {
        "sealed": {"iss": "gw.local/main/1", "manifest": pef.content(MANIFEST), "sealed": "2026-11-22T05:00:00.000000Z"},
        "moved": {"from": "gateway", "to": "safe"},
        "verified": {"anchoring": "anchored", "authenticity": "trusted", "completeness": "complete", "integrity": "ok"},
        "disclosed": {"to": "auditor", "what": "bundle"},
        "archived": pointer(),
        "deleted": {"plan": pef.content(b"a plan"), "report": pef.content(b"a report")},
    }
    return by, {"action": action, action: facts[action]} | members


def custody(*acts):
    lines = []
    for seq, (by, change) in enumerate(acts):
        entry = {
            "actor": "ada", "bundle": {"run": RUN, "sha256": pef.content(BUNDLE)}, "seq": seq, "ts": "2026-11-22T06:00:00.000000Z",
            "key": {"alg": by.alg, "kid": by.kid, "spki": pef.b64(by.spki)}, "v": "custody/v0",
        }
        if seq:
            entry["prev"] = leaf(lines[-1])
        entry |= change
        subject = entry.pop("subject", entry["bundle"]["sha256"]).removeprefix("sha256:")
        statement = {
            "_type": "https://in-toto.io/Statement/v1", "predicateType": "urn:estoppel:custody:v0",
            "predicate": {name: value for name, value in entry.items() if value is not None},
            "subject": [{"digest": {"sha256": subject}, "name": "nightly.pef.zip"}],
        }
        lines.append(pef.canonical(pef.envelope(pef.PAE_STATEMENT, pef.canonical(statement), by)))
    return lines


def custody_cases():
    good = custody(act("sealed"), act("moved", note="by courier"), act("verified", BO), act("disclosed"), act("archived"))
    head, other = leaf(good[-1]), b"another bundle"
    whole = listed(good).encode()
    archived = [{"bytes": len(whole), "sha256": pef.content(whole)}]
    both = {"signers": [pef.b64(ADA.spki), pef.b64(BO.spki)]}
    yield "every-action", good, both | {"heads": [head], "archived": archived}, None
    yield "without-keys", good, {}, None
    looked = act("verified")[1]["verified"] | {"found": pef.content(other)}
    yield "deleted", custody(act("sealed"), act("archived"), act("deleted", BO)), both, None
    yield "deleted-and-a-copy-was-taken-back", custody(act("sealed"), act("deleted"), act("moved", BO)), both, None
    yield "deleted-without-a-report", custody(act("sealed"), act("deleted", deleted={"plan": pef.content(b"a plan")})), {}, ("CUSTODY_SCHEMA", 1)
    yield "begins-with-the-deletion", custody(act("deleted")), {}, ("CUSTODY_CHAIN", 0)
    yield "another-file-was-found", custody(act("sealed"), act("verified", verified=looked)), both, None
    failed = looked | {"authenticity": "unchecked", "integrity": "failed", "reason": "ENTRY_CHAIN"}
    yield "an-altered-file-was-found", custody(act("sealed"), act("verified", verified=failed)), both, None
    itself = looked | {"found": pef.content(BUNDLE)}
    yield "what-was-found-is-the-bundle", custody(act("sealed"), act("verified", verified=itself)), {}, ("CUSTODY_BUNDLE", 1)
    yield "what-was-found-is-no-digest", custody(act("sealed"), act("verified", verified=looked | {"found": "sha256:0"})), {}, ("CUSTODY_SCHEMA", 1)
    yield "grown-since-it-was-archived", good, {"archived": [{"bytes": len(good[0]) + 1, "sha256": pef.content(good[0] + b"\n")}]}, None
    yield "empty", [], {}, ("CUSTODY_FORM", None)
    yield "empty-line", [good[0], b""], {}, ("CUSTODY_FORM", None)
    yield "not-an-envelope", [b"{}"], {}, ("CUSTODY_SCHEMA", 0)
    yield "unknown-member", custody(act("sealed", also=1)), {}, ("CUSTODY_SCHEMA", 0)
    yield "facts-of-another-action", custody(act("sealed"), act("moved", verified=act("verified")[1]["verified"])), {}, ("CUSTODY_SCHEMA", 1)
    yield "no-facts", custody(act("sealed"), act("moved", moved=None)), {}, ("CUSTODY_SCHEMA", 1)
    yield "unknown-action", custody((ADA, {"action": "lent"})), {}, ("CUSTODY_SCHEMA", 0)
    yield "begins-with-another-action", custody(act("moved")), {}, ("CUSTODY_CHAIN", 0)
    yield "sealed-twice", custody(act("sealed"), act("sealed")), {}, ("CUSTODY_CHAIN", 1)
    yield "of-two-bundles", custody(act("sealed"), act("moved", bundle={"run": RUN, "sha256": pef.content(other)})), {}, ("CUSTODY_CHAIN", 1)
    yield "subject-is-another", custody(act("sealed", subject=pef.content(other))), {}, ("CUSTODY_CHAIN", 0)
    yield "cut-at-the-beginning", good[1:], {}, ("CUSTODY_CHAIN", 0)
    yield "cut-in-the-middle", [*good[:2], *good[3:]], {}, ("CUSTODY_CHAIN", 2)
    yield "reordered", [good[0], good[2], good[1]], {}, ("CUSTODY_CHAIN", 1)
    yield "signed-anew-in-the-middle", [good[0], custody(act("sealed"), act("moved", BO))[1], *good[2:]], {}, ("CUSTODY_CHAIN", 2)
    stated = {"alg": BO.alg, "kid": BO.kid, "spki": pef.b64(BO.spki)}
    yield "states-another-key", custody(act("sealed", key=stated)), {}, ("CUSTODY_KEY", 0)
    altered = pef.canonical(pef.envelope(pef.PAE_STATEMENT, custody_payload(good[0]).replace(b'"ada"', b'"eve"'), ADA, signature=custody_signature(good[0])))
    yield "altered", [altered], {}, ("CUSTODY_SIGNATURE", 0)
    yield "signer-not-given", good, {"signers": [pef.b64(ADA.spki)]}, ("CUSTODY_UNTRUSTED", 2)
    yield "of-another-bundle", custody(act("sealed", bundle={"run": RUN, "sha256": pef.content(other)})), {}, ("CUSTODY_BUNDLE", 0)
    lie = act("sealed")[1]["sealed"] | {"sealed": "2026-11-22T04:00:00.000000Z"}
    yield "sealed-at-another-time", custody(act("sealed", sealed=lie)), {}, ("CUSTODY_BUNDLE", 0)
    yield "archived-something-else", custody(act("sealed"), act("archived", archived=pointer(other))), {}, ("CUSTODY_BUNDLE", 1)
    yield "cut-at-the-end-below-a-head", good[:-1], {"heads": [head]}, ("CUSTODY_CUT", None)
    yield "cut-at-the-end-below-the-archive", good[:-1], {"archived": archived}, ("CUSTODY_CUT", None)


def custody_payload(line):
    return base64.b64decode(json.loads(line)["payload"])


def custody_signature(line):
    return base64.b64decode(json.loads(line)["signatures"][0]["sig"])


def result(fault):
    return {"ok": True} if fault is None else {"ok": False, "code": fault[0]} | ({} if fault[1] is None else {"entry": fault[1]})


def documents():
    cases = [{"name": name, "list": text, "result": result(fault)} for name, text, fault in index_cases()]
    yield "archive-vectors.json", {"format": "estoppel-archive-vectors/1", "cases": cases}
    cases = [{"name": name, "list": listed(lines), "given": given, "result": result(fault)} for name, lines, given, fault in custody_cases()]
    given = {"bundle": pef.content(BUNDLE), "manifest": MANIFEST.decode()}
    yield "custody-vectors.json", {"format": "estoppel-custody-vectors/1", "of": given, "cases": cases}


def main():
    stale = []
    for name, document in documents():
        text = json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
        path = SPEC / name
        if "--check" in sys.argv:
            stale += [name] if not path.exists() or path.read_text() != text else []
        else:
            path.write_text(text)
    sys.exit(f"not what make_lists.py writes: {stale}" if stale else 0)


if __name__ == "__main__":
    main()
