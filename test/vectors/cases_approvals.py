"""Calls that waited for people: steps L13 and L14, and the entries that came with minor v0.3."""

from pef import P256, PAE_APPROVAL, b64, canonical, content, key, pae, uuid
from run import ISS, POLICY, Bundle, Lines, Run, stamp
from vector import VECTORS, failed, passed, vector

BODY = b'{"amount":90000,"to":"ACME"}'
SIGNED = ("by", "comment", "decision", "expires", "hold", "iss", "nonce", "payload", "policy", "run")
LATER = 3_600_000_000
#: The call number under which the hold is opened; the call itself comes after the decisions.
HELD = 1


def approver(number, alg="ed25519"):
    return key("receipt", 20 + number, alg)


class Held(Run):
    """A run with one hold, on which decisions can be made."""

    def __init__(self, label, *, needs=2, approvers=(1, 2, 3), **members):
        super().__init__("held " + label)
        self.hold = uuid("hold " + label)
        self.payload = self.capture.tag("pef/v0/request-body", BODY)
        self.open(needs=needs, approvers=[approver(number).kid for number in approvers], **members)

    def open(self, **members):
        least = {
            "call": self.call_id(HELD),
            "expires": stamp(LATER),
            "hold": self.hold,
            "operation": "mcp.tools/call",
            "payload": self.payload,
            "policy": content(POLICY),
            "requester": "agent-7",
            "rule": "large-transfer",
            "tool": "transfer",
        }
        self.add("hold", **{**least, **members})

    def decide(self, number, decision="approve", *, by=None, signed=None, signer=None, **members):
        """`members` are stated and signed, `signed` is signed and not stated."""
        person = by or approver(number)
        stated = {
            "decision": decision,
            "expires": stamp(LATER),
            "hold": self.hold,
            "nonce": f"{number:032x}",
            "payload": self.payload,
            "policy": content(POLICY),
            **members,
        }
        everything = stated | {"iss": ISS, "run": self.id} | (signed or {})
        statement = canonical({name: everything[name] for name in SIGNED if name in everything})
        signature = (signer or person).sign(pae(PAE_APPROVAL, statement))
        own = {"alg": person.alg, "approver": person.kid, "signature": b64(signature), "spki": b64(person.spki)}
        self.add("approval", **{**own, **stated})
        return self

    def let_pass(self, *numbers, call=HELD, approval=None, body=BODY, **members):
        """The call, with the approvals of these approvers."""
        made = {"approved": [approver(number).kid for number in numbers], "hold": self.hold, **(approval or {})}
        tag = self.capture.tag("pef/v0/request-body", body)
        request = {"bytes": len(body), "method": "POST", "tag": tag}
        held = {"expires": stamp(LATER), "id": self.hold, "outcome": "approved", "us": 3_000}
        stated = {"approval": made, "body": {"mode": "hmac"}, "hold": held, "request": request}
        self.call(call, **{**stated, **members})
        return self


def two(label, **members):
    held = Held(label, **members)
    held.decide(1, comment="checked with \u00c5sa \u201cby phone\u201d\t")
    return held.decide(3)


def good(name, about, run):
    vector(f"valid-{name}", about, passed(), Bundle(run.seal()))


def bad(name, about, run, step, seq):
    vector(f"forged-{name}", about, failed(step, "APPROVAL_INVALID", seq), Bundle(run.seal()))


good("approved", "A call that two of three approvers let pass.", two("approved").let_pass(1, 3))
denied = Held("denied").decide(1).decide(2, "deny", comment="not this one")
denied.call(HELD, action="block", hold={"id": denied.hold, "outcome": "denied"})
good("denied", "One approved and one denied: the call was blocked.", denied)
expired = Held("expired").decide(1)
expired.call(HELD, action="block", hold={"id": expired.hold, "outcome": "expired"})
good("hold-expired", "Too few decided in time: the call was blocked.", expired)
good("hold-open", "The run was sealed before anybody decided.", Held("left open"))
mixed = Held("mixed", needs=1, approvers=())
mixed.steps.pop()
mixed.open(needs=1, approvers=[approver(1, P256).kid])
mixed.decide(1, by=approver(1, P256))
mixed.let_pass(approval={"approved": [approver(1, P256).kid]})
good("approved-p256", "The approver's key is a P-256 key.", mixed)
both = two("two holds")
both.let_pass(1, 3)
both.hold = uuid("hold second")
both.open(needs=1, approvers=[approver(1).kid])
both.decide(1).let_pass(1, call=2)
good("approved-twice", "Two holds of one payload, each used once; nonces count for one hold.", both)
named = Held("leaf", needs=1)
leaf = "leaf:" + Lines(named).hashes()[1].hex()
good("approved-leaf", "The receipt names the entry of the hold.", named.decide(2).let_pass(2, approval={"leaf": leaf}))

# --- L13: the decision ---

for name, about, run in (
    ("no-hold", "The decision is on a hold that is not in the run.", Held("a").decide(1, hold=uuid("none"))),
    ("payload", "The decision is on another payload.", Held("b").decide(1, payload="hmac-sha256:" + "00" * 8 + ":" + "11" * 32)),
    ("policy", "The decision was made under another policy.", Held("c").decide(1, policy=content(b"{}"))),
    ("stranger", "The decision is by nobody of the hold's approvers.", Held("d").decide(4)),
    ("late", "The decision came after it had expired.", Held("e").decide(1, expires=stamp(1_000))),
    ("beyond", "The decision expires after the hold.", Held("f").decide(1, expires=stamp(LATER + 1))),
    ("other-signer", "Another approver's key signed.", Held("g").decide(1, signer=approver(2))),
    ("other-decision", "The approver signed a denial.", Held("h").decide(1, signed={"decision": "deny"})),
    ("other-run", "The approver signed for another run.", Held("i").decide(1, signed={"run": uuid("elsewhere")})),
    ("other-instance", "The approver signed for another instance.", Held("j").decide(1, signed={"iss": "gw.example.org/main/2"})),
    ("comment-added", "A comment was added after the approver had signed.", Held("k")),
    ("spki", "The key beside the decision is another one.", Held("l")),
    ("algorithm", "The algorithm is not that of the key.", Held("m")),
    ("signature-length", "The signature has the wrong length.", Held("n")),
):
    if name == "comment-added":
        run.decide(1)
        run.steps[-1][0]["comment"] = "and everything else"
    elif name == "spki":
        run.decide(1)
        run.steps[-1][0]["spki"] = b64(approver(2).spki)
    elif name == "algorithm":
        run.decide(1)
        run.steps[-1][0]["alg"] = "ecdsa-p256-sha256"
    elif name == "signature-length":
        run.decide(1)
        run.steps[-1][0]["signature"] = b64(bytes(63))
    bad(f"approval-{name}", about, run, "L13", 2)
bad("approval-again", "One approver decides twice.", Held("o").decide(1).decide(1, nonce="ff" * 16), "L13", 3)
bad("approval-nonce", "A nonce is used twice for one hold.", Held("p").decide(1).decide(2, nonce=f"{1:032x}"), "L13", 3)

# --- L14: the hold, and the call ---

bad("hold-needs", "The hold needs more approvals than it has approvers.", Held("q", needs=4), "L14", 1)
bad("hold-approver-twice", "The hold lists an approver twice.", Held("F", approvers=(1, 1, 2)), "L14", 1)
again = Held("r")
again.open(needs=1, approvers=[approver(1).kid])
bad("hold-again", "The id of a hold is used twice.", again, "L14", 2)
bad("held-unheld", "The call names a hold that is not in the run.", two("s").let_pass(1, 3, approval={"hold": uuid("none")}), "L14", 4)
bad("held-too-few", "One approved where two are needed.", Held("t").decide(1).let_pass(1), "L14", 3)
bad("held-counted-twice", "One approver is listed twice.", Held("u").decide(1).let_pass(1, 1), "L14", 3)
bad("held-unlisted", "The approvers are not listed.", two("v").let_pass(), "L14", 4)
bad("held-not-approved", "An approver is listed who decided nothing.", two("w").let_pass(1, 2), "L14", 4)
bad("held-denied", "Two approved, one denied, and the call passed.", two("x").decide(2, "deny").let_pass(1, 3), "L14", 5)
bad("held-denier-listed", "Who denied is listed among those who approved.", Held("y").decide(1).decide(2, "deny").let_pass(1, 2), "L14", 4)
bad("held-twice", "One hold lets two calls pass.", two("z").let_pass(1, 3).let_pass(1, 3, call=2), "L14", 5)
bad("held-payload", "The call has another payload than the one that was approved.", two("A").let_pass(1, 3, body=b"{}"), "L14", 4)
bad("held-no-tag", "The call does not say what its payload was.", two("B").let_pass(1, 3, body=BODY, request={"bytes": 9, "method": "POST"}), "L14", 4)
bad("held-leaf", "The receipt names another entry than the hold.", two("C").let_pass(1, 3, approval={"leaf": "leaf:" + "00" * 32}), "L14", 4)
changed = two("D")
other = changed.policy(2)
changed.let_pass(1, 3, policy={"hash": other})
bad("held-policy", "The call was judged by another policy than the one that held it.", changed, "L14", 4)
early = Held("E")
early.let_pass(1, 3).decide(1).decide(3)
bad("held-early", "The call passed before it was approved.", early, "L14", 2)

# --- Other entries of v0.3 ---

acts = Run("acts", klass="instance")
acts.add("act", act="kill", by="ada", comment="drill", on="tool:transfer")
acts.add("act", act="resume", by="ada", on="tool:transfer", reason="OK", state="done")
acts.add("bypass", reason="BYPASS", source="provider_log")
acts.add("bypass", at=stamp(0), comment="not ours", count=3, reason="BYPASS", ref="req_9", source="credential", upstream="openai")
good("acts", "What operators did, and traffic that has no receipt.", acts)


def documents():
    """As cases_schemas.py does for the kinds of v0.0, in a file of its own: what is published does not change."""
    from cases_schemas import entries, rows

    found = {}
    for entry in entries(two("schemas").let_pass(1, 3).seal(), acts):
        if entry["kind"] in ("hold", "approval", "act", "bypass"):
            found[entry["kind"]] = entry
    return b"".join(canonical(row) + b"\n" for row in rows(found, {}))


VECTORS.setdefault("schemas", {})["journal_event-v0.3.ndjson"] = documents()
