"""What the demos of this folder share: what is said, waited for, and missed."""

import socket
import sys
import time


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
