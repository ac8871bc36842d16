"""A policy from its change to its release and back: `make demo-release`.

Prints only what the running parts said: calls go through a real gateway, generations, gates and tags are those of a git
repository made for it, and the kit at the end is verified by the Python script alone. The first thing that is not there
ends it with exit code 1.
"""

import json
import os
import pathlib
import shutil
import signal
import sys
import urllib.error
import urllib.request
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from stage import BIN, Stage, check, perform, say, settings, title, wait_for  # noqa: E402

POLICY = (HERE / "policy.yaml").read_text()

POLICY_FILE = "{folder}/repository/policy.yaml"
MORE = """[upstream.bank]
url = "{bank}"
[[route]]
name = "refunds"
path = "/refunds"
upstream = "bank"
dialect = "json"
"""

BANK = {"rules": [{"method": "POST", "reply": {"headers": [["content-type", "application/json"]], "body": {"text": '{"state":"paid"}'}}}]}

GATES = {
    "evidence_bundle": {"trust": "trust.json", "calls_min": 1, "blocks_max": 0},
    "policy_hash": {"policy": "policy.yaml"},
    "regress": {"policy": "policy.yaml", "fixtures": "fixtures"},
}


class Demo(Stage):
    def __init__(self, folder):
        super().__init__(folder)
        self.repository = folder / "repository"

    # Parts.

    def git(self, *words):
        return self.command("git", "-C", self.repository, *words).stdout.strip()

    def ended(self, *words, key=None):
        environment = {**os.environ, "ESTOPPEL_PROGRAM": str(BIN / "estoppel"), "GATEWAY": self.gateway, "ADMIN": self.admin}
        if key:
            environment["ESTOPPEL_RELEASE_KEY"] = str(self.folder / f"{key}.pem")
        done = self.command(BIN / "estoppel", "--json", *words, exit=None, cwd=self.repository, env=environment)
        answer = json.loads(done.stdout.splitlines()[-1]) if done.stdout else {"error": done.stderr}
        return done.returncode, answer.get("data", answer.get("error"))

    def estoppel(self, *words, key=None, exit=0):
        code, said = self.ended(*words, key=key)
        check(f"estoppel {' '.join(map(str, words))}: exit {code}, {said}", code == exit)
        return said

    def commit(self, message, **files):
        for name, text in files.items():
            (self.repository / name.replace("__", ".")).write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "-m", message)

    def refund(self, cents, run):
        body = json.dumps({"order": "o-1", "cents": cents}).encode()
        headers = {"content-type": "application/json", "estoppel-run": run}
        request = urllib.request.Request(f"http://{self.gateway}/refunds", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status
        except urllib.error.HTTPError as refused:
            return refused.code

    # What happens.

    def begin(self):
        check(f"{BIN}/estoppeld, which `make demo-release` builds", (BIN / "estoppeld").exists())
        self.repository.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")
        self.git("config", "user.name", "Ada")
        self.git("config", "user.email", "ada@example.invalid")
        shutil.copy(HERE / "prove.sh", self.repository)
        self.commit("a limit for refunds", policy__yaml=POLICY)
        bank = self.stub(BANK, "bank")
        self.process, self.gateway, self.admin = self.daemon(settings("release-demo", self.folder, POLICY_FILE, MORE, bank=bank))
        say("gateway", f"http://{self.gateway}/refunds   admin {self.admin}")
        say("policy", "refunds of more than 500 EUR are refused")

    def recorded(self):
        title("1  what was recorded")
        check("a small refund passes", self.refund(4_000, "kept") == 200)
        check("a large one is refused", self.refund(90_000, "kept") == 403)
        bundle = self.estoppel("seal", "kept", "--admin", self.admin)["path"]
        self.trust = self.folder / "journal/trust.json"
        shutil.copy(self.trust, self.repository / "trust.json")
        calls = [entry for entry in self.estoppel("show", bundle)["entries"] if entry["kind"] == "call"]
        for call in calls:
            made = self.estoppel("regress", "add", "--from", bundle, "--call", call["seq"], "--into", "fixtures", "--trust", self.trust)
            say("fixture", f"{made['expect']['verdict']:<6} {made['expect'].get('reason', '')}  {made['path']}")
        self.commit("what the policy has to go on saying")

    def roles(self):
        title("2  who may do what")
        for name in ("ada", "bert"):
            _, public = self.key(name)
            if name == "ada":
                self.estoppel("ledger", "init", "--name", "Ada", key="ada")
            else:
                self.estoppel("roles", "grant", public, "--name", "Bert", "--role", "approver", "--role", "releaser", key="ada")
        say("ada", "owner: seals and proves")
        say("bert", "approver and releaser")

    def generation(self, version, kind, title, policy, gates, hotfix=None):
        document = {
            "generation": 1, "version": version, "description": title, "author": {"name": "Ada"},
            "changes": [{"id": f"REF-{version}", "type": kind, "title": title}],
            "steps": [{"id": "traffic", "kind": "e2e", "run": ["sh", "prove.sh"], "proves": "all", "env": ["GATEWAY", "ADMIN", "ESTOPPEL_PROGRAM"]}],
            "gates": gates,
        }
        document |= {"hotfix": hotfix} if hotfix else {}
        file = self.repository / f".estoppel/generations/v{version}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(document, indent=2))
        before = self.estoppel("policy", "hash", "policy.yaml")
        self.commit(title, policy__yaml=policy)
        self.reload(before)
        self.estoppel("generation", "seal", version, key="ada")
        say("sealed", f"v{version}: {kind} REF-{version}, {title}")

    def reload(self, before):
        wanted = self.estoppel("policy", "hash", "policy.yaml")
        if wanted == before:
            return
        self.process.send_signal(signal.SIGHUP)
        of = lambda: self.metric("estoppel_reloads_total")
        wait_for("the gateway goes by the new policy", lambda: of() > self.reloads)
        self.reloads = of()

    reloads = 0

    def metric(self, name):
        text = urllib.request.urlopen(f"http://{self.admin}/metrics", timeout=10).read().decode()
        lines = (line for line in text.splitlines() if line.startswith(name) and 'result="ok"' in line or line.startswith(name + " "))
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    def evolution(self, version):
        run = self.estoppel("evolution", "start", version, "--all", key="ada")
        check(f"it passed: {run}", run["result"] == "PASSED")
        say("evolution", f"{run['evolution']} {run['result']}, {run['tag']}")
        return run["evolution"]

    def gates(self, judged):
        for row in judged["gates"]:
            say("", f"{row['state']:<8} {row['gate']:<24} {row['why'][:90]}")

    def promoted(self, version):
        done = self.estoppel("promote", version, key="bert")
        self.gates(done)
        check(f"a tag: {done}", done["tag"] == f"v{version}")
        verified = self.estoppel("verify", "tag", done["tag"])
        say("promoted", f"{done['tag']} on {verified['commit'][:12]}, verified" if "commit" in verified else f"{done['tag']}, verified")

    def tightened(self):
        title("3  a change, proven and promoted")
        policy = POLICY.replace("50000", "30000").replace("500 EUR", "300 EUR")
        self.generation("1.0.0", "refine", "Refunds of more than 300 EUR are for people", policy, GATES | {"approvals": {"count": 1}})
        self.released = self.evolution("1.0.0")
        code, refused = self.ended("promote", "1.0.0", key="bert")
        check(f"nothing is promoted without an approval: {code} {refused}", code == 4)
        say("refused", refused["reason"])
        self.gates({"gates": [row for row in refused["gates"] if row["state"] != "pass"]})
        self.estoppel("approve", "1.0.0", key="bert")
        say("approved", "by bert, who is not the author")
        self.promoted("1.0.0")

    def loosened(self):
        title("4  a rule that was loosened")
        policy = (self.repository / "policy.yaml").read_text().replace("30000", "3000000")
        self.generation("1.1.0", "refine", "Refunds are quicker", policy, GATES)
        self.evolution("1.1.0")
        code, refused = self.ended("promote", "1.1.0", key="bert")
        self.gates(refused)
        states = {row["gate"]: row["state"] for row in refused["gates"]}
        check(f"regress refuses it: {states}", code == 3 and states["regress"] == "fail" and states["evidence_bundle"] == "pass")
        check("there is no tag", not self.git("tag", "--list", "v1.1.0"))
        say("refused", f"{refused['reason']}: its steps passed, and a refund that was refused would be paid")
        self.estoppel("generation", "abandon", "1.1.0", "--reason", "it pays what was refused", key="ada")
        self.git("checkout", "--quiet", "v1.0.0", "--", "policy.yaml")

    def hotfix(self):
        title("5  a hotfix, and back")
        policy = self.git("show", "v1.0.0:policy.yaml").replace("are for people", "need a person") + "\n"
        skips = {"base": "1.0.0", "reason": "the message was misread", "skips": ["min_evolutions"]}
        self.generation("1.0.1", "fix", "Say it plainly", policy, GATES | {"min_evolutions": {"count": 3}}, skips)
        self.mended = self.evolution("1.0.1")
        self.promoted("1.0.1")
        back = self.estoppel("rollback", "1.0.1", "--reason", "it was misread still", key="bert")
        trees = [self.git("rev-parse", f"{name}^{{tree}}") for name in (back["commit"], "v1.0.0")]
        check("the sources are those of v1.0.0", trees[0] == trees[1])
        say("back", f"to v{back['to']}, {back['tag']}; tree {trees[0][:12]} as before")

    def ledger(self):
        title("6  what is left")
        self.estoppel("ledger", "verify")
        audit = self.folder / "audit.csv"
        self.estoppel("audit", "export", "--format", "csv", "--out", audit)
        self.estoppel("audit", "verify", audit)
        say("audit", f"{audit}, {len(audit.read_text().splitlines()) - 1} lines, verified")
        self.key("auditor")
        bundle = self.repository / ".git/estoppel/evidence" / self.released / "calls.pef.zip"
        key, pci, kit = self.folder / "auditor.pem", self.folder / "pci", self.folder / "audit.kit.zip"
        common = ["--bundle", bundle, "--trust", self.trust, "--key", key, "--out"]
        self.estoppel("attest", "--framework", "pci-dss-4.0.1", *common, pci)
        self.estoppel("attest", "verify", pci, "--bundle", bundle, "--trust", self.trust)
        pages = sorted(path.name for path in pci.iterdir())
        check(f"a page for people among {pages}", any(name.endswith(".pdf") for name in pages))
        say("attested", f"{pci}: {', '.join(pages)}, verified")
        self.estoppel("kit", "build", *common, kit, "--attestation", pci)
        unpacked = self.folder / "kit"
        zipfile.ZipFile(kit).extractall(unpacked)
        verified = self.command(sys.executable, "verify.py", cwd=unpacked)
        say("kit", f"{kit}")
        for line in verified.stdout.strip().splitlines():
            say("verify.py", line)
        declared = next(path for path in sorted(unpacked.rglob("*.pef.zip")))
        declared.write_bytes(declared.read_bytes() + b"x")
        altered = self.command(sys.executable, "verify.py", cwd=unpacked, exit=None)
        check("an altered kit is refused", altered.returncode == 2)
        say("altered", f"exit {altered.returncode}: {(altered.stdout + altered.stderr).strip().splitlines()[-1]}")


def acts(demo):
    demo.begin()
    demo.recorded()
    demo.roles()
    demo.tightened()
    demo.loosened()
    demo.hotfix()
    demo.ledger()


if __name__ == "__main__":
    perform("release-demo", Demo, acts)
