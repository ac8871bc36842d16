"""A pipeline whose only step is `false` proves nothing, so nothing is promoted, and that is recorded."""

from repository import Repository, gate
from scene import check, shown

WHAT = "a pipeline of `false` is promoted"
OTHERS = 'EpykLab/gryt-ci at 94d5315 (2026-01-27): `evolution prove` reads result["steps"], which gryt/runner.py never returns'


def show(scene):
    repository = Repository(scene)
    repository.seal("1.0.0", ["false"])
    run = repository.evolve("1.0.0", exit=3)
    check(f"a failed evolution without a tag: {run}", run["result"] == "FAILED" and not run["tag"])
    refused = repository.promote("1.0.0", exit=3)
    state, line = gate(refused, "all_changes_proven")
    check(f"GATE_REFUSED: {refused}", refused["reason"] == "GATE_REFUSED" and state == "fail")
    check(f"no tag, there is {repository.tags()}", not repository.tags())
    events = repository.estoppel("ledger", "show", "--local")["events"]
    check("the refusal is in the ledger", [event["kind"] for event in events].count("promotion.refused") == 1)
    repository.estoppel("ledger", "verify")
    return "refused with exit 3, recorded in the signed ledger", line


if __name__ == "__main__":
    shown(WHAT, OTHERS, show)
