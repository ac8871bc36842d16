"""A proof that passed, and fails when it is made again, no longer promotes."""

from repository import Repository, gate
from scene import check, shown

WHAT = "what failed its second verification is still promoted"
OTHERS = "akuity/kargo issue 5144 (2025-10-02, closed as stale; pull request 5128 open as of 2026-09)"


def show(scene):
    repository = Repository(scene)
    repository.seal("1.0.0", ["sh", "-c", 'test "$UPSTREAM" = up'], env=["UPSTREAM"])
    first = repository.evolve("1.0.0", UPSTREAM="up")
    check(f"a first proof: {first}", first["result"] == "PASSED" and first["tag"] == "v1.0.0-rc.1")
    repository.evolve("1.0.0", UPSTREAM="down", exit=3)
    refused = repository.promote("1.0.0", exit=3)
    state, line = gate(refused, "all_changes_proven")
    check(f"the latest proof counts: {refused}", state == "fail")
    check("there is no release", repository.tags() == ["v1.0.0-rc.1"])
    return "refused with exit 3: the latest proof counts", line


if __name__ == "__main__":
    shown(WHAT, OTHERS, show)
