"""Good evidence of another run promotes nothing, and a release is the commit that was proven, not where the branch is."""

import shutil

from repository import Repository, gate
from scene import check, shown

WHAT = "a proof of something else is taken for a proof of this"
OTHERS = "EpykLab/gryt-ci at 2467e6a, gryt/evolution.py: an evolution has no commit, and its tag is put on HEAD"

POLICY = "version: 1\nname: refunds\ndefaults: { verdict: allow, on_not_evaluated: block }\n"
GATES = {"evidence_bundle": {"trust": "trust.json", "calls_min": 1, "blocks_max": 0}}

PROVE = """set -e
curl --silent --fail --output /dev/null --header "Estoppel-Run: $ESTOPPEL_EVOLUTION" \\
    --header "Estoppel-Evolution-Id: $ESTOPPEL_NONCE" --header 'Content-Type: application/json' --data '{"cents":4000}' "$GATEWAY/refunds"
sealed=$("$ESTOPPEL_PROGRAM" --json seal "$ESTOPPEL_EVOLUTION" --admin "$ADMIN" | sed 's/.*"path":"\\([^"]*\\)".*/\\1/')
cp "$sealed" "$ESTOPPEL_EVIDENCE/calls.pef.zip"
"""


def show(scene):
    gateway = scene.gateway(POLICY, scene.bank())
    repository = Repository(scene)
    shutil.copy(gateway.trust, repository.folder / "trust.json")
    environment = {"GATEWAY": gateway.url, "ADMIN": gateway.admin}
    repository.seal("1.0.0", ["sh", "-c", PROVE], GATES, env=environment)
    proven = repository.git("rev-parse", "HEAD")
    run = repository.evolve("1.0.0", **environment)
    repository.commit("something that nobody has proven", {"later": "x"})
    repository.promote("1.0.0")
    tagged = repository.git("rev-parse", "v1.0.0^{commit}")
    check("the release is the proven commit, not HEAD", tagged == proven != repository.git("rev-parse", "HEAD"))
    old = repository.folder / ".git/estoppel/evidence" / run["evolution"] / "calls.pef.zip"
    scene.estoppel("verify", old, "--trust", gateway.trust)
    repository.seal("1.1.0", ["sh", "-c", f"cp '{old}' \"$ESTOPPEL_EVIDENCE/calls.pef.zip\""], GATES)
    repository.evolve("1.1.0")
    refused = repository.promote("1.1.0", exit=3)
    state, line = gate(refused, "evidence_bundle")
    check(f"evidence_bundle refuses it: {refused}", state == "fail" and "of another run" in line)
    check("nothing else was released", "v1.1.0" not in repository.tags())
    return "refused with exit 3: its calls lack the nonce of this run; v1.0.0 is the proven commit", line


if __name__ == "__main__":
    shown(WHAT, OTHERS, show)
