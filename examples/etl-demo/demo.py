"""An agent, three tools that write to a Postgres database, and the gateway between them: `make demo-etl`.

Prints only what the running parts said: the database is Debian's PostgreSQL, receipts and entries are read from the sealed
bundles by `estoppel`, and so is what differs. The first thing that is not there ends it with exit code 1.
"""

import json
import pathlib
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile

import agent
import database

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from stage import BIN, Missing, Stage, check, free_port, listens, perform, say, settings, title, wait_for  # noqa: E402

MORE = """[upstream.tools]
url = "{tools}"
[[route]]
name = "tools"
path = "/tools"
upstream = "tools"
dialect = "json"
[[database]]
name = "shop"
url_file = "{folder}/shop.url"
grace_ms = 4000
written = [{{ table = "public.raw_orders", key = "call_id" }}, {{ table = "public.daily_totals", key = "call_id" }}]
watch_rows = true
watch_rows_every_ms = 200
"""


FOUND = 'estoppel_bypass_total{source="database"}'


class Demo(Stage):
    database = None

    def begin(self):
        check(f"{BIN}/estoppeld, which `make demo-etl` builds", (BIN / "estoppeld").exists())
        programs = check("PostgreSQL of Debian (apt-get install postgresql)", database.programs())
        self.database = database.Database(programs)
        self.database.start()
        say("database", f"PostgreSQL {self.database.sql('SHOW server_version')}, tables raw_orders and daily_totals")
        port = free_port()
        tools = [sys.executable, HERE / "tools.py", port, self.database.psql, self.database.url("postgres")]
        self.start("tools", *tools)
        wait_for(f"the tools, see {self.folder}/tools.log", lambda: listens(port))
        self.start_gateway(f"http://127.0.0.1:{port}")
        say("gateway", f"{self.gateway}/tools   admin {self.admin}")

    def start_gateway(self, tools):
        url = self.folder / "shop.url"
        url.touch(0o600)
        url.write_text(self.database.url("estoppel_snapshot"))
        self.process, main, self.admin = self.daemon(settings("etl-demo", self.folder, str(HERE / "policy.yaml"), MORE, tools=tools))
        self.gateway = f"http://{main}"
        wait_for("a first look at the rows", lambda: self.metric('code="OK",database="shop",side="watch"'))

    def stop(self):
        super().stop()
        if self.database:
            self.database.stop()

    def metric(self, labels):
        text = urllib.request.urlopen(f"http://{self.admin}/metrics", timeout=10).read().decode()
        lines = (line for line in text.splitlines() if not line.startswith("#") and labels in line)
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    def ended(self, *words):
        done = subprocess.run([BIN / "estoppel", "--json", *map(str, words)], capture_output=True, text=True)
        answer = json.loads(done.stdout.splitlines()[-1]) if done.stdout else {"data": done.stderr}
        return done.returncode, answer.get("data", answer)

    def estoppel(self, *words, exit=0):
        code, said = self.ended(*words)
        check(f"estoppel {' '.join(map(str, words))}: exit {code}, {said}", code == exit)
        return said

    def shown(self, *words):
        return f"{BIN / 'estoppel'} {' '.join(map(str, words))}"

    # What happens.

    def three_calls(self):
        title("1  three calls that write")
        told = lambda *said: say("agent", "{} {} -> {}".format(*map(json_of, said)))
        try:
            self.answers = agent.run(self.gateway, told)
        except urllib.error.HTTPError as error:
            raise Missing(f"an answer of each tool: {error}, {error.read().decode()}") from None

    def behind_its_back(self):
        title("2  a write behind the gateway's back")
        statement = "INSERT INTO daily_totals (batch, cents) VALUES ('b-1', 1)"
        self.database.sql(statement)
        say("psql", statement)
        found = wait_for("the orphan", lambda: self.metric(FOUND))
        check(f"one orphan, there are {found:.0f}", found == 1)
        say("metric", f"{FOUND} 1")

    # What is left of it.

    def evidence(self):
        title("3  the evidence")
        self.bundle = self.estoppel("seal", "etl", "--admin", self.admin)["path"]
        self.end(self.process)
        trust = self.folder / "journal/trust.json"
        self.trust = ["--trust", trust]
        verified = self.estoppel("verify", self.bundle, *self.trust)
        check(f"a verified bundle: {verified}", verified["ok"])
        say("bundle", self.bundle)
        say("verified", ", ".join(f"{what} {verdict}" for what, verdict in verified["verdicts"].items()))
        entries = self.estoppel("show", self.bundle)["entries"]
        self.receipts = [entry for entry in entries if entry["kind"] == "call"]
        check("three receipts", len(self.receipts) == 3)
        for receipt, (tool, _) in zip(self.receipts, agent.PLAN):
            self.receipt(receipt, tool)
        say("again", self.shown("show", self.bundle))

    def receipt(self, receipt, tool):
        sides = {side: receipt["snapshot"][side] for side in ("pre", "post")}
        say(f"seq {receipt['seq']}", f"{tool}, call {receipt['call']}")
        for side, seen in sides.items():
            say("", f"{side:<4} {check('a digest', seen.get('digest'))[:23]}… lsn {seen['lsn']}")
        writes = check(f"rows of {tool}", receipt["ext"]["writes"])
        say("", "rows that name it: " + ", ".join(f"{one['rows']} of {one['table']}" for one in writes))
        check(f"{tool} wrote rows in its name", any(one["rows"] for one in writes))
        changes = self.changes(receipt, sides)
        say("", "schema: " + (", ".join(changes) or "as before"))
        check("only transform changed the schema", bool(changes) == (tool == "transform"))

    def changes(self, receipt, sides):
        differs = sides["pre"]["digest"] != sides["post"]["digest"]
        words = ["snapshot", "diff", self.bundle, "--call", receipt["seq"]]
        changes = self.estoppel(*words, exit=5 if differs else 0)["changes"]
        return [f"{change['op']} {change['path']}" for change in changes]

    def orphan(self):
        title("4  the orphan")
        out = self.folder / "etl.incident.zip"
        self.estoppel("incident", "--from", "etl", "--journal", self.folder / "journal", "--window", "30m", *self.trust, "--out", out)
        self.estoppel("incident", "verify", out, *self.trust)
        timeline = json.loads(zipfile.ZipFile(out).read("timeline.json"))["rows"]
        found = [row for row in timeline if row["kind"] == "bypass"]
        check(f"one bypass among the calls, there are {len(found)}", len(found) == 1)
        shown = {name: found[0][name] for name in ("source", "upstream", "ref", "count", "comment")}
        check("it is of daily_totals", shown["ref"] == "public.daily_totals" and shown["count"] == 1)
        say("bypass", json.dumps(shown))
        say("incident", f"{out}, verified; its timeline.html is for people")

    # Again.

    def replays(self):
        title("5  a replay")
        key, _ = self.key("certifier")
        self.signed = ["--keys", self.folder / "keys", "--key", key]
        out = self.folder / "served.json"
        words = ["replay", "serve", self.bundle, *self.trust, *self.signed, "--out", out, "--until-done"]
        command = [BIN / "estoppel", "--json", *words]
        process = subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, text=True)
        self.processes.append(process)
        listening = said_by(process)["listening"]
        again = agent.run(listening)
        check("the agent gets the same answers, without the tools", again == self.answers)
        certificate = said_by(process)["certificate"]
        check(f"success: {certificate}", process.wait(30) == 0 and certificate["status"] == "success")
        say("agent", "ran again against the bundle and got the same three answers; no tool, no database was asked")
        counts = certificate["counts"]
        say("status", f"{certificate['status']}, {counts['matched']} of {counts['recorded']} calls, see {out}")
        code, certificate = self.judged_again(self.bundle, "judged.json")
        check(f"success: {certificate}", code == 0 and certificate["status"] == "success")
        say("judged", f"again, offline: {certificate['status']}, see {self.folder}/judged.json")

    def judged_again(self, bundle, out):
        words = ["replay", "run", bundle, *self.trust, *self.signed, "--out", self.folder / out]
        code, said = self.ended(*words)
        return code, check(f"a certificate: {said}", said.get("certificate"))

    def altered(self):
        title("6  the same with one recorded answer altered")
        receipt = self.receipts[1]
        body = "bodies/" + receipt["response"]["upstream"]["sha256"].removeprefix("sha256:")
        bundle = self.folder / "altered.pef.zip"
        with zipfile.ZipFile(self.bundle) as recorded, zipfile.ZipFile(bundle, "w") as forged:
            for entry in recorded.infolist():
                content = recorded.read(entry)
                if entry.filename == body:
                    before, content = content, content.replace(b'"EUR"', b'"USD"')
                    check("the answer is stored as it was", before != content)
                    say("altered", f"{before.decode()} -> {content.decode()}")
                forged.writestr(entry, content)
        code, certificate = self.judged_again(bundle, "altered.json")
        check(f"a failure: {certificate}", code == 2 and certificate["status"] == "failed")
        at = certificate["first_divergent_seq"]
        check(f"it names the call: {certificate}", at == receipt["seq"])
        say("status", f"failed at seq {at}, transform, call {receipt['call']}: {', '.join(certificate['reasons'])}")
        say("", f"see {self.folder}/altered.json")


def said_by(process):
    """The next answer of a program that goes on."""
    answer = json.loads(check("an answer of the replay", process.stdout.readline()))
    return check(f"an answer of the replay, not {answer}", answer.get("data"))


def json_of(value):
    return value if isinstance(value, str) else json.dumps(value)


def acts(demo):
    demo.begin()
    demo.three_calls()
    demo.behind_its_back()
    demo.evidence()
    demo.orphan()
    demo.replays()
    demo.altered()


if __name__ == "__main__":
    perform("etl-demo", Demo, acts)
