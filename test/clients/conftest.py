"""A gateway of its own for the official clients: scripted model, daemon, journal, all on free loopback ports."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import urllib.request

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "examples"))
from stage import JsonHandler, free_port, wait_for  # noqa: E402, F401 - the tests here take them from this file

BIN = pathlib.Path(os.environ.get("ESTOPPEL_BIN_DIR", ROOT / "target/debug"))
TARGET_POLICY = ROOT / "policies/baseline.yaml"


class Daemon:
    """estoppeld with its configuration in a folder; `seal` gives a bundle, `cli` runs estoppel."""

    def __init__(self, folder, upstreams, policy=TARGET_POLICY, extra=""):
        self.folder = folder
        routes = "".join(
            f'[upstream.{name}]\nurl = "{url}"\n\n[[route]]\nname = "{name}"\npath = "/{name}"\nstrip_path = true\nupstream = "{name}"\n\n'
            for name, url in upstreams.items()
        )
        (folder / "estoppeld.toml").write_text(
            f"""[instance]
host = "localhost"
name = "clients"
[journal]
dir = "{folder}/journal"
[keys]
init = true
[policy]
file = "{policy}"
[admin]
listen = "127.0.0.1:0"
[[listener]]
listen = "127.0.0.1:0"
{extra}
{routes}"""
        )
        self.log = open(folder / "estoppeld.log", "wb")
        ready = folder / "ready.json"
        self.process = subprocess.Popen(
            [BIN / "estoppeld", "--config", folder / "estoppeld.toml", "--ready-file", ready],
            stdout=self.log,
            stderr=self.log,
        )
        def up():
            if self.process.poll() is not None:
                raise AssertionError((folder / "estoppeld.log").read_text())
            return ready.exists() and ready.read_text()

        where = json.loads(wait_for("estoppeld", up))
        self.base = "http://" + where["listeners"]["main"]
        self.admin = where["admin"]

    def cli(self, *words, code=0):
        done = subprocess.run([BIN / "estoppel", "--json", *map(str, words)], capture_output=True, text=True)
        assert done.returncode == code, f"estoppel {words}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        return json.loads(done.stdout)

    def seal(self, run):
        return pathlib.Path(self.cli("seal", run, "--admin", self.admin)["data"]["path"])

    def receipts(self, run):
        """Seals the run, has every verifier agree on it, and gives its receipts."""
        bundle = self.seal(run)
        trust = self.folder / "journal/trust.json"
        ours = self.cli("verify", bundle, "--trust", trust)["data"]
        assert ours["ok"] and ours["verdicts"]["authenticity"] == "trusted", ours
        for verifier in (
            [sys.executable, ROOT / "spec/verifiers/python/pef_verify.py"],
            ["node", ROOT / "spec/verifiers/javascript/pef-verify.mjs"],
        ):
            done = subprocess.run([*verifier, "--json", "--trust", trust, bundle], capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
            assert json.loads(done.stdout)["verdicts"] == ours["verdicts"]
        entries = self.cli("show", bundle)["data"]["entries"]
        return [entry for entry in entries if entry["kind"] == "call"]

    def metric(self, name, **labels):
        text = urllib.request.urlopen(f"http://{self.admin}/metrics").read().decode()
        total = 0.0
        for line in text.splitlines():
            if line.startswith(name) and all(f'{k}="{v}"' in line for k, v in labels.items()):
                total += float(line.rsplit(" ", 1)[1])
        return total

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(20) == 0, (self.folder / "estoppeld.log").read_text()
        self.log.close()


def start_stub(port, log, script=None):
    """The scripted upstream on a port, ready."""
    words = ["--script", script] if script else []
    with open(log, "wb") as out:
        command = [BIN / "estoppel", "stub", "--listen", f"127.0.0.1:{port}", *words]
        process = subprocess.Popen(command, stdout=out, stderr=out)

    def up():
        import socket

        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return True
        except OSError:
            return False

    wait_for("the scripted model", up)
    return process


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    port = free_port()
    process = start_stub(port, tmp_path_factory.mktemp("stub") / "log")
    yield f"http://127.0.0.1:{port}"
    process.kill()
    process.wait()


@pytest.fixture(scope="session")
def gateway(model, tmp_path_factory):
    daemon = Daemon(tmp_path_factory.mktemp("gateway"), {"model": model})
    yield daemon
    daemon.stop()
