"""The signed tag of a candidate, put under the name of the release: git verifies it, we do not."""

from repository import Repository
from scene import check, shown

WHAT = "a signed tag verifies under another name"
OTHERS = "git: `git verify-tag` compares no names (run here as well); found again in tpo/applications/rbm issue 30480"


def show(scene):
    repository = Repository(scene)
    repository.seal("1.0.0", ["true"], gates={"approvals": {"count": 1}})
    candidate = repository.evolve("1.0.0")["tag"]
    repository.estoppel("verify", "tag", candidate)
    repository.git("update-ref", "refs/tags/v1.0.0", repository.git("rev-parse", f"refs/tags/{candidate}"))
    signers = scene.folder / "allowed"
    signers.write_text("\n".join(repository.estoppel("roles", "signers")["signers"]) + "\n")
    by_git = ["git", "-C", repository.folder, "-c", f"gpg.ssh.allowedSignersFile={signers}", "verify-tag", "v1.0.0"]
    scene.command(*by_git)
    refused = repository.estoppel("verify", "tag", "v1.0.0", exit=2)
    check(f"TAG_FORGED: {refused}", refused["code"] == "TAG_FORGED")
    return "git verify-tag v1.0.0: exit 0; estoppel verify tag v1.0.0: exit 2", f"{refused['code']}: {refused['message']}"


if __name__ == "__main__":
    shown(WHAT, OTHERS, show)
