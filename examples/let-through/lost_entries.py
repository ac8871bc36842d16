"""A journal that was put back to an earlier state is whole in itself; a checkpoint that was kept elsewhere says what is gone."""

import shutil

from scene import check, post, shown

WHAT = "the newest entries of a hash chain are cut off, and it verifies"
OTHERS = (
    "msaad00/agent-bom issue 3697 (2026-07-08, fixed by 3700); "
    "Clyra-AI/proof at 6324bf8, core/chain/chain.go: Verify trusts the head beside the records"
)

POLICY = "version: 1\nname: refunds\ndefaults: { verdict: allow, on_not_evaluated: block }\n"


def session(scene, upstream, cents):
    """One refund, and the journal as the gateway leaves it."""
    gateway = scene.gateway(POLICY, upstream)
    check("a refund", post(gateway.url, {"cents": cents})[0] == 200)
    gateway.end()
    return gateway


def show(scene):
    upstream = scene.bank()
    earlier, kept = scene.folder / "earlier", scene.folder / "kept.checkpoint"
    gateway = session(scene, upstream, 100)
    shutil.copytree(gateway.journal, earlier)
    session(scene, upstream, 90_000)
    shutil.copy(gateway.journal / "checkpoint", kept)
    trust = ["--trust", gateway.trust]
    scene.estoppel("verify", gateway.journal, *trust, "--against", kept)
    scene.estoppel("verify", earlier, *trust)
    refused = scene.estoppel("verify", earlier, *trust, "--against", kept, exit=2)
    return "exit 2 against a checkpoint that was kept elsewhere", f"{refused['reason']}: {refused['detail']}"


if __name__ == "__main__":
    shown(WHAT, OTHERS, show)
