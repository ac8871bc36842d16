"""What the demos of this folder share: programs that are started and ended, what is said, waited for, and missed."""

import http.server
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time

BIN = pathlib.Path(os.environ.get("ESTOPPEL_BIN_DIR", pathlib.Path(__file__).resolve().parents[1] / "target/release")).resolve()

CONFIG = """[instance]
host = "localhost"
name = "{name}"
[journal]
dir = "{folder}/journal"
[keys]
init = true
dir = "{folder}/keys"
[policy]
file = "{policy}"
[admin]
listen = "127.0.0.1:0"
[[listener]]
listen = "127.0.0.1:0"
"""


class Missing(Exception):
    """Something that has to be there is not."""


def check(what, found):
    if not found:
        raise Missing(what)
    return found


def say(name="", text=""):
    print(f"   {name:<9} {text}".rstrip(), flush=True)


def title(text):
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}", flush=True)


def wait_for(what, probe, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := probe():
            return found
        time.sleep(0.05)
    raise Missing(f"{what}: not within {seconds} s")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def settings(name, folder, policy, more, /, **names):
    """Of a gateway on free ports. `policy` is its file; it and `more` have `{folder}` and `names` in braces."""
    return (CONFIG.replace("{policy}", policy) + more).format(name=name, folder=folder, **names)


class Stage:
    """Programs that are started in a folder, each with a log there."""

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

    def key(self, name):
        """-> a new Ed25519 key and its public key, as files"""
        pem, public = self.folder / f"{name}.pem", self.folder / f"{name}.pub"
        pem.touch(0o600)
        self.command("openssl", "genpkey", "-algorithm", "ed25519", "-out", pem)
        self.command("openssl", "pkey", "-in", pem, "-pubout", "-out", public)
        return pem, public

    def stub(self, script, name="stub"):
        """The address of a scripted upstream."""
        file, log = self.folder / f"{name}.json", self.folder / f"{name}.log"
        file.write_text(json.dumps(script))
        stub = self.start(name, BIN / "estoppel", "stub", "--json", "--listen", "127.0.0.1:0", "--script", file)
        said = wait_for(f"the {name}", lambda: stub.poll() is not None or log.read_text().strip())
        where = json.loads(check(f"the {name}, see {log}", isinstance(said, str) and said).splitlines()[0])["data"]["listening"]
        return where if "://" in where else f"http://{where}"

    def daemon(self, settings, folder=None, name="estoppeld"):
        """estoppeld with its settings in a folder -> its process, where it listens, where it is administered"""
        folder = folder or self.folder
        file, ready, log = folder / "estoppeld.toml", folder / "ready.json", self.folder / f"{name}.log"
        file.write_text(settings)
        ready.unlink(missing_ok=True)
        process = self.start(name, BIN / "estoppeld", "--config", file, "--ready-file", ready)
        there = wait_for(f"the gateway, see {log}", lambda: process.poll() is not None or ready.exists() and ready.read_text())
        where = json.loads(check(f"the gateway, see {log}", isinstance(there, str) and there))
        return process, where["listeners"]["main"], where["admin"]


class JsonHandler(http.server.BaseHTTPRequestHandler):
    """Answers in JSON and logs nothing."""

    def answer(self, body):
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def leaves(error):
    """What is in a group of groups, as tasks make them."""
    return sum((leaves(one) for one in error.exceptions), []) if isinstance(error, BaseExceptionGroup) else [error]


def perform(name, demo, acts):
    """Plays the acts of a demo in a folder that stays. What is missing ends it with exit code 1."""
    demo = demo(pathlib.Path(tempfile.mkdtemp(prefix=f"{name}-")))
    try:
        acts(demo)
    except* Missing as missing:
        for what in leaves(missing):
            print(f"\nmissing: {what}; logs are in {demo.folder}", file=sys.stderr)
        sys.exit(1)
    finally:
        demo.stop()
