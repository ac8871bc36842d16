"""What nobody could look into is refused, and where a policy lets it pass, its receipt says that nobody did."""

import gzip

from scene import calls, check, post, shown

WHAT = "the audit trail says `success` of what was never scanned"
OTHERS = "BerriAI/litellm issue 35257 (2026-07-30, fixed by 35260): guardrail_status `success` of a stream that no guardrail read"

BLOCKING = "version: 1\nname: refunds\ndefaults: { verdict: allow }\n"
ALLOWING = "version: 1\nname: refunds\ndefaults: { verdict: allow, on_not_evaluated: allow }\n"


def sent(scene, gateway):
    """The status and the receipt of a refund that only the upstream can read."""
    body = gzip.compress(b'{"cents":90000}')
    status = post(gateway.url, body, "unread", **{"content-encoding": "gzip"})[0]
    return status, len(body), calls(scene, gateway.seal("unread"))[0]


def show(scene):
    upstream = scene.bank()
    status, _, refused = sent(scene, scene.gateway(BLOCKING, upstream, "blocking"))
    check(f"what nobody can read is refused: {status} {refused['verdict']}", status == 403 and refused["verdict"]["reason"] == "NOT_EVALUATED")
    status, length, passed = sent(scene, scene.gateway(ALLOWING, upstream, "allowing"))
    looked = passed["evaluated"]["request"]
    check(f"it passes where the policy says so: {status}", status == 200 and passed["verdict"]["action"] == "allow")
    check(f"the receipt says that nobody looked: {looked}", looked["state"] == "not_evaluated" and looked["skipped"] == length)
    line = f"receipt of the one that a looser policy let pass: request {looked['state']}, {looked['skipped']} bytes skipped"
    return "refused: NOT_EVALUATED", line


if __name__ == "__main__":
    shown(WHAT, OTHERS, show)
