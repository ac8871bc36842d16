"""What each row of this folder is shown with: our real programs, in a folder that is the row's own.

Everything that is started here is ended when the row is over. What is not as it should be is `Missing`, and then the
row ends with exit code 1.
"""

import argparse
import http.client
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from stage import Missing, check, say, title, wait_for  # noqa: E402

BIN = pathlib.Path(os.environ.get("ESTOPPEL_BIN_DIR", HERE.parents[1] / "target/release")).resolve()
SPEC = pathlib.Path(os.environ.get("ESTOPPEL_SPEC_DIR", HERE.parents[1] / "spec"))

CONFIG = """[instance]
host = "localhost"
name = "let-through"
[journal]
dir = "{folder}/journal"
[keys]
init = true
dir = "{folder}/keys"
[policy]
file = "{folder}/policy.yaml"
[admin]
listen = "127.0.0.1:0"
[[listener]]
listen = "127.0.0.1:0"
[upstream.up]
url = "{upstream}"
[[route]]
name = "up"
path = "/"
upstream = "up"
dialect = "{dialect}"
{more}
"""


PAID = {"headers": [["content-type", "application/json"]], "body": {"text": '{"state":"paid"}'}}


class Scene:
    def __init__(self, folder):
        self.folder, self.processes = folder, []

    def start(self, name, *command):
        with open(self.folder / f"{name}.log", "wb") as log:
            process = subprocess.Popen([*map(str, command)], stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def end(self, process):
        process.terminate()
        check("a program that ends when it is told to", process.wait(30) == 0)

    def stop(self):
        for process in reversed(self.processes):
            if process.poll() is None:
                process.terminate()
            process.wait()

    def command(self, *words, exit=0, **more):
        """Runs it, and misses another exit code than `exit` (`None`: any will do)."""
        done = subprocess.run([*map(str, words)], capture_output=True, text=True, **more)
        said = f"{' '.join(map(str, words))}: exit {done.returncode}, {done.stdout}{done.stderr}"
        check(said if exit is None else f"exit {exit} of {said}", exit is None or done.returncode == exit)
        return done

    def estoppel(self, *words, exit=0, **more):
        """The `data` of the answer, or its `error`."""
        done = self.command(BIN / "estoppel", "--json", *words, exit=exit, **more)
        answer = json.loads(done.stdout.splitlines()[-1])
        return answer.get("data") or answer["error"]

    def key(self, name):
        """-> a new Ed25519 key and its public key, as files"""
        pem, public = self.folder / f"{name}.pem", self.folder / f"{name}.pub"
        pem.touch(0o600)
        self.command("openssl", "genpkey", "-algorithm", "ed25519", "-out", pem)
        self.command("openssl", "pkey", "-in", pem, "-pubout", "-out", public)
        return pem, public

    def stub(self, script):
        """The address of a scripted upstream."""
        file, log = self.folder / "stub.json", self.folder / "stub.log"
        file.write_text(json.dumps(script))
        stub = self.start("stub", BIN / "estoppel", "stub", "--json", "--listen", "127.0.0.1:0", "--script", file)
        said = wait_for("the stub", lambda: stub.poll() is not None or log.read_text().strip())
        where = json.loads(check(f"the stub, see {log}", isinstance(said, str) and said).splitlines()[0])["data"]["listening"]
        return where if "://" in where else f"http://{where}"

    def bank(self):
        """The address of an upstream that pays whatever it is asked to."""
        return self.stub({"rules": [{"reply": PAID}]})

    def gateway(self, policy, upstream, name="gateway", dialect="json", more=""):
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        (folder / "policy.yaml").write_text(policy)
        return Gateway(self, folder, CONFIG.format(folder=folder, upstream=upstream, dialect=dialect, more=more))


class Gateway:
    """estoppeld in a folder of its own. One that is made again goes on with the journal that is there."""

    def __init__(self, scene, folder, config):
        self.scene, self.journal, self.keys = scene, folder / "journal", folder / "keys"
        self.trust = self.journal / "trust.json"
        file, ready = folder / "estoppeld.toml", folder / "ready.json"
        file.write_text(config)
        ready.unlink(missing_ok=True)
        check(f"{BIN}/estoppeld, which `make let-through` builds", (BIN / "estoppeld").exists())
        self.process = scene.start(folder.name, BIN / "estoppeld", "--config", file, "--ready-file", ready)
        log = scene.folder / f"{folder.name}.log"
        there = wait_for(f"the gateway, see {log}", lambda: self.process.poll() is not None or ready.exists() and ready.read_text())
        where = json.loads(check(f"the gateway, see {log}", isinstance(there, str) and there))
        self.url, self.admin = "http://" + where["listeners"]["main"], where["admin"]

    def end(self):
        self.scene.end(self.process)

    def seal(self, run):
        return pathlib.Path(self.scene.estoppel("seal", run, "--admin", self.admin)["path"])

    def metric(self, name):
        text = urllib.request.urlopen(f"http://{self.admin}/metrics", timeout=10).read().decode()
        lines = (line for line in text.splitlines() if line.startswith((name + " ", name + "{")))
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def post(url, body, run=None, path="/refunds", **headers):
    """-> status, headers, what came of the body, and whether the connection broke before its end"""
    headers = {"content-type": "application/json"} | ({"estoppel-run": run} if run else {}) | headers
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=20)
    try:
        connection.request("POST", path, body if isinstance(body, bytes) else json.dumps(body), headers)
        try:
            answer = connection.getresponse()
        except (http.client.HTTPException, OSError) as error:
            raise Missing(f"an answer from {url}: {error}") from None
        came, whole = b"", True
        try:
            while piece := answer.read1(65536):
                came += piece
        except (http.client.HTTPException, OSError):
            whole = False
        return answer.status, dict(answer.getheaders()), came, whole
    finally:
        connection.close()


def calls(scene, bundle):
    return [entry for entry in scene.estoppel("show", bundle)["entries"] if entry["kind"] == "call"]


def shown(what, others, show):
    """Shows one row. `show(scene)` gives what came of it here, and the line that says so."""
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    as_json = parser.parse_args().json
    with tempfile.TemporaryDirectory(prefix="let-through-") as folder:
        scene = Scene(pathlib.Path(folder))
        try:
            here, evidence = show(scene)
        except Missing as missing:
            print(f"missing: {missing}", file=sys.stderr)
            sys.exit(1)
        finally:
            scene.stop()
    if as_json:
        print(json.dumps({"what": what, "others": others, "here": here, "evidence": evidence}))
        return
    title(what)
    say("others", others)
    say("here", here)
    say("evidence", evidence)
