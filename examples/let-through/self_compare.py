"""A recorded refusal is judged again by the policy of today, and a rule that was loosened is a difference."""

from scene import check, limited, post, shown

WHAT = "a regression test compares a run with itself"
OTHERS = "Clyra-AI/gait at 1c480c5 (2026-08-19), core/regress/run.go: resolveCandidatePath falls back to the fixture's own run"

POLICY = limited("fixtures")
LOOSENED = POLICY.replace("50000", "5000000")


def show(scene):
    gateway = scene.gateway(POLICY, scene.bank())
    check("a refund that is too large is refused", post(gateway.url, {"cents": 90_000}, "kept")[0] == 403)
    bundle, fixtures, policy = gateway.seal("kept"), scene.folder / "fixtures", scene.folder / "policy.yaml"
    trust = ["--trust", gateway.trust]
    scene.estoppel("regress", "add", "--from", bundle, "--call", 1, "--into", fixtures, *trust)
    run = ["regress", "run", "--policy", policy, "--fixtures", fixtures, *trust]
    policy.write_text(POLICY)
    scene.estoppel(*run)
    policy.write_text(LOOSENED)
    found = scene.estoppel(*run, exit=5)
    row = found["fixtures"][0]
    line = f"seq {row['seq']}: expected {row['expected']['verdict']} {row['expected']['reason']}, now {row['now']['verdict']}; because: {row['because']}"
    check(f"the policy is why: {row}", row["state"] == "changed" and row["because"] == "policy")
    return "the policy of then: exit 0; a loosened one: exit 5", line


if __name__ == "__main__":
    shown(WHAT, OTHERS, show)
