"""A git repository with a release ledger: Ada owns it, Bert approves and releases."""

import json
import os

from scene import BIN


class Repository:
    def __init__(self, scene):
        self.scene, self.folder = scene, scene.folder / "repository"
        self.folder.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")
        self.git("config", "user.name", "Ada")
        self.git("config", "user.email", "ada@example.invalid")
        self.keys = {name: scene.key(name) for name in ("ada", "bert")}
        self.commit("begun")
        self.estoppel("ledger", "init", "--name", "Ada", key="ada")
        roles = ["--role", "approver", "--role", "releaser"]
        self.estoppel("roles", "grant", self.keys["bert"][1], "--name", "Bert", *roles, key="ada")

    def git(self, *words, exit=0):
        return self.scene.command("git", "-C", self.folder, *words, exit=exit).stdout.strip()

    def estoppel(self, *words, key=None, exit=0, **environment):
        environment = {**os.environ, "ESTOPPEL_PROGRAM": str(BIN / "estoppel"), **environment}
        if key:
            environment["ESTOPPEL_RELEASE_KEY"] = str(self.keys[key][0])
        return self.scene.estoppel(*words, exit=exit, cwd=self.folder, env=environment)

    def commit(self, message, files=()):
        for name, text in dict(files).items():
            (self.folder / name).write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def seal(self, version, run, gates=None, env=(), key="ada"):
        """Seals a generation of one change, which one step proves."""
        document = {
            "generation": 1, "version": version, "description": "Refunds", "author": {"name": "Ada"},
            "changes": [{"id": "REF-1", "type": "fix", "title": "Refunds are checked"}],
            "steps": [{"id": "test", "kind": "e2e", "run": run, "proves": "all", "env": ["ESTOPPEL_PROGRAM", *env]}],
            "gates": gates or {},
        }
        file = self.folder / f".estoppel/generations/v{version}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(document, indent=2))
        self.commit(f"the contract of {version}")
        self.estoppel("generation", "seal", version, key=key)

    def evolve(self, version, exit=0, **environment):
        return self.estoppel("evolution", "start", version, "--all", key="ada", exit=exit, **environment)

    def promote(self, version, exit=0):
        return self.estoppel("promote", version, key="bert", exit=exit)

    def tags(self):
        return self.git("tag", "--list").split()


def gate(judged, name):
    """A gate's row, as one line."""
    row = next((row for row in judged.get("gates", []) if row["gate"] == name), {"state": "absent", "why": ""})
    return row["state"], f"{name}: {row['state']}, {row['why']}"
