"""An altered bundle is refused as often as it is verified, and one that was made again with other keys is not trusted."""

import hashlib
import sys
import zipfile

from scene import SPEC, check, post, shown

WHAT = "verifying rebuilds the evidence first, so what was altered verifies"
OTHERS = "Astrocytech/Glyphser at 9495bf9 (2026-03-15): `verify hello-core` runs run_hello_core.main(), then reads what that wrote"

POLICY = """version: 1
name: refunds
defaults: { verdict: allow, on_not_evaluated: block }
rules:
- { id: limit, when: { body: [{ at: /cents, greater_than: 50000 }] }, verdict: block, reason: REFUND_LIMIT }
"""


def recorded(scene, gateway, status):
    """A bundle of one refund that is too large."""
    check(f"status {status}", post(gateway.url, {"cents": 90_000}, "kept")[0] == status)
    return gateway.seal("kept")


def alter(bundle, to):
    """The refusal is an allowance now."""
    with zipfile.ZipFile(bundle) as before, zipfile.ZipFile(to, "w") as after:
        contents = {entry: before.read(entry) for entry in before.infolist()}
        for entry, content in contents.items():
            after.writestr(entry, content.replace(b'"action":"block"', b'"action":"allow"'))
    check("something to alter", any(b'"action":"block"' in content for content in contents.values()))


def refusals(scene, bundle, trust):
    """What our verifier and the one in Python say of it, which shares no code with ours."""
    said = scene.estoppel("verify", bundle, "--trust", trust, exit=2)
    scene.command(sys.executable, SPEC / "verifiers/python/pef_verify.py", "--trust", trust, bundle, exit=2)
    return said


def show(scene):
    upstream = scene.bank()
    ours = scene.gateway(POLICY, upstream, "ours")
    bundle, altered = recorded(scene, ours, 403), scene.folder / "altered.pef.zip"
    check("ours verifies", scene.estoppel("verify", bundle, "--trust", ours.trust)["ok"])
    alter(bundle, altered)
    digest = hashlib.sha256(altered.read_bytes()).digest()
    said = refusals(scene, altered, ours.trust)
    refusals(scene, altered, ours.trust)
    check("verifying changed nothing", hashlib.sha256(altered.read_bytes()).digest() == digest)
    theirs = scene.gateway(POLICY.replace("block, reason: REFUND_LIMIT", "allow"), upstream, "theirs")
    again = recorded(scene, theirs, 200)
    check("by its own word it is whole", scene.estoppel("verify", again)["ok"])
    untrusted = refusals(scene, again, ours.trust)
    check(f"it is not ours: {untrusted}", untrusted["verdicts"]["authenticity"] == "failed")
    line = f"{said['reason']} at seq {said['seq']}; made again with other keys: {untrusted['reason']}"
    return "exit 2, twice, by the Python verifier too; nothing was mended", line


if __name__ == "__main__":
    shown(WHAT, OTHERS, show)
