"""Held calls whose client sends them again under another id: what came with minor v0.4."""

from cases_approvals import Held, bad, good
from pef import canonical
from vector import VECTORS

CALL = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"transfer","arguments":{"amount":90000}}}'
MEMBERS = {"arguments": b'{"amount":90000}', "name": b'"transfer"'}


def asked_for(method, members):
    """What d of SPEC section 4, `hold`, is the digest of."""
    named = [("method", method.encode()), *sorted(members.items(), key=lambda item: item[0].encode())]
    parts = [part for name, value in named for part in (name.encode(), value)]
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)


class Called(Held):
    """A hold of what a request asks for."""

    def open(self, **members):
        self.payload = self.asked = self.capture.tag("pef/v0/request-call", asked_for("tools/call", MEMBERS))
        super().open(**{"of": "call", **members, "payload": self.asked})

    def let_pass(self, *numbers, approval=None, **members):
        made = {"call_tag": self.asked, **(approval or {})}
        return super().let_pass(*numbers, approval=made, body=CALL.replace(b"7", b"8", 1), **members)


def two(label):
    return Called("call " + label).decide(1).decide(3)


good("approved-call", "The call came again under another id, and asks for what two of three approvers let pass.", two("a").let_pass(1, 3))
bad("held-call-other", "The call asks for something else than what was approved.", two("b").let_pass(1, 3, approval={"call_tag": "hmac-sha256:" + "00" * 8 + ":" + "11" * 32}), "L14", 4)
untold = two("c")
Held.let_pass(untold, 1, 3)
bad("held-call-untold", "The call does not say what it asks for.", untold, "L14", 4)
of_body = Held("of its body").decide(1).decide(3)
bad("held-call-not-asked", "The hold is of the request's body, and the call says what it asks for.", of_body.let_pass(1, 3, approval={"call_tag": of_body.payload}), "L14", 4)
bad("held-call-twice", "A hold of what a request asks for lets two calls pass.", two("d").let_pass(1, 3).let_pass(1, 3, call=2), "L14", 5)


def documents():
    """As cases_approvals.py does: what is published does not change."""
    from cases_schemas import entries, rows

    found = {}
    for entry in entries(two("schemas").let_pass(1, 3).seal()):
        if entry["kind"] in ("hold", "call"):
            found[entry["kind"]] = entry
    return b"".join(canonical(row) + b"\n" for row in rows({"hold": found["hold"]}, {}))


VECTORS.setdefault("schemas", {})["journal_event-v0.4.ndjson"] = documents()
