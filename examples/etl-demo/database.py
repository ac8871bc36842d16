"""A PostgreSQL of its own, on a socket in a folder: no port, and gone when it is stopped."""

import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import tempfile
import time

SCHEMA = """
CREATE TABLE raw_orders (batch text, sku text, cents int, call_id uuid);
CREATE TABLE daily_totals (batch text, cents int, call_id uuid);
CREATE INDEX ON raw_orders (call_id);
CREATE INDEX ON daily_totals (call_id);
CREATE ROLE estoppel_snapshot LOGIN;
GRANT SELECT (call_id, xmin) ON raw_orders, daily_totals TO estoppel_snapshot;
"""


def programs():
    """The newest of Debian's; none where there is none."""
    found = [path.parent for path in pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    return max(found, key=lambda path: int(path.parent.name), default=None)


class Database:
    def __init__(self, bin):
        # A socket's path has at most 107 bytes, and the server's user has to reach it.
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="etl-pg-", dir="/tmp"))
        self.bin, self.psql, self.process = bin, bin / "psql", None
        self.user = self.server_user()

    def start(self):
        data = self.folder / "data"
        self.run(self.bin / "initdb", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C", "--username=postgres", "-D", data)
        command = [self.bin / "postgres", "-D", data, "-k", self.folder, "-c", "listen_addresses=", "-c", "fsync=off"]
        self.process = subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **self.user)
        self.wait()
        self.sql(SCHEMA)

    def server_user(self):
        """PostgreSQL refuses to run as root."""
        if os.geteuid() != 0:
            return {}
        names = {entry.pw_name: entry for entry in pwd.getpwall()}
        entry = names.get("postgres") or names["nobody"]
        os.chown(self.folder, entry.pw_uid, entry.pw_gid)
        return {"user": entry.pw_uid, "group": entry.pw_gid, "cwd": "/"}

    def run(self, *command):
        subprocess.run([*map(str, command)], check=True, stdout=subprocess.DEVNULL, **self.user)

    def wait(self, seconds=30):
        end = time.monotonic() + seconds
        while self.ask("SELECT 1").returncode:
            if time.monotonic() > end or self.process.poll() is not None:
                raise RuntimeError("PostgreSQL does not come up")
            time.sleep(0.1)

    def url(self, user):
        return f"postgresql:///postgres?host={self.folder}&user={user}"

    def ask(self, statements):
        words = [self.psql, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", self.url("postgres")]
        return subprocess.run([*map(str, words)], input=statements, capture_output=True, text=True)

    def sql(self, statements):
        done = self.ask(statements)
        if done.returncode:
            raise RuntimeError(done.stderr)
        return done.stdout.strip()

    def stop(self):
        if self.process:
            self.process.send_signal(signal.SIGINT)  # ends sessions that are open
            self.process.wait()
        shutil.rmtree(self.folder)
