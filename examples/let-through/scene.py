"""What each row of this folder is shown with: our real programs, in a folder that is the row's own.

Everything that is started here is ended when the row is over. What is not as it should be is `Missing`, and then the
row ends with exit code 1.
"""

import argparse
import http.client
import json
import os
import pathlib
import sys
import tempfile
import urllib.parse
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from stage import BIN, Missing, Stage, check, say, settings, title  # noqa: E402

SPEC = pathlib.Path(os.environ.get("ESTOPPEL_SPEC_DIR", HERE.parents[1] / "spec"))

MORE = """[upstream.up]
url = "{upstream}"
[[route]]
name = "up"
path = "/"
upstream = "up"
dialect = "{dialect}"
{more}
"""


PAID = {"headers": [["content-type", "application/json"]], "body": {"text": '{"state":"paid"}'}}


def limited(reason):
    """A policy that refuses refunds of more than 500 EUR, and stores bodies for a reason."""
    return f"""version: 1
name: refunds
defaults: {{ verdict: allow, on_not_evaluated: block, body_storage: {{ full: {{ reason: {reason} }} }} }}
rules:
- {{ id: limit, when: {{ body: [{{ at: /cents, greater_than: 50000 }}] }}, verdict: block, reason: REFUND_LIMIT }}
"""


class Scene(Stage):
    def estoppel(self, *words, exit=0, **more):
        """The `data` of the answer, or its `error`."""
        done = self.command(BIN / "estoppel", "--json", *words, exit=exit, **more)
        answer = json.loads(done.stdout.splitlines()[-1])
        return answer.get("data") or answer["error"]

    def bank(self):
        """The address of an upstream that pays whatever it is asked to."""
        return self.stub({"rules": [{"reply": PAID}]})

    def gateway(self, policy, upstream, name="gateway", dialect="json", more=""):
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        (folder / "policy.yaml").write_text(policy)
        return Gateway(self, folder, settings("let-through", folder, "{folder}/policy.yaml", MORE, upstream=upstream, dialect=dialect, more=more))


class Gateway:
    """estoppeld in a folder of its own. One that is made again goes on with the journal that is there."""

    def __init__(self, scene, folder, settings):
        self.scene, self.journal, self.keys = scene, folder / "journal", folder / "keys"
        self.trust = self.journal / "trust.json"
        check(f"{BIN}/estoppeld, which `make let-through` builds", (BIN / "estoppeld").exists())
        self.process, main, self.admin = scene.daemon(settings, folder, folder.name)
        self.url = f"http://{main}"

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
