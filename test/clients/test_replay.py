"""The official OpenAI client runs again against what was recorded of it."""

import asyncio
import json
import subprocess

import openai
import pytest

from conftest import BIN, Daemon

POLICY = """version: 1
name: replay
defaults: { verdict: allow, on_not_evaluated: allow, body_storage: { full: { reason: replay } } }
"""
TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]
HELLO = [{"role": "user", "content": "hello there"}]


def client(base, run, cls=openai.OpenAI):
    return cls(base_url=base, api_key="sk-test", max_retries=0, default_headers={"estoppel-run": run})


async def at_once(base, run):
    asks = client(base, run, openai.AsyncOpenAI)
    question = [{"role": "user", "content": "at once"}]
    answers = (asks.chat.completions.create(model="scripted-1", messages=question) for _ in range(3))
    return [answer.model_dump() for answer in await asyncio.gather(*answers)]


def talk(base, run):
    """The same conversation each time: what the client made of the answers."""
    asks = client(base, run)
    plain = asks.chat.completions.create(model="scripted-1", messages=HELLO)
    stream = asks.chat.completions.create(model="scripted-1", messages=HELLO, stream=True)
    pieces = [chunk.model_dump() for chunk in stream]
    called = asks.chat.completions.create(model="scripted-1", messages=HELLO, tools=TOOLS)
    answered = asks.responses.create(model="scripted-1", input="hello there")
    dumps = [answer.model_dump() for answer in (plain, called, answered)]
    return [*dumps, pieces, asyncio.run(at_once(base, run))]


def serve(bundle, folder, out, *more):
    words = ["replay", "serve", bundle, "--keys", folder / "journal/keys", "--key", folder / "certifier.pem"]
    command = [BIN / "estoppel", "--json", *map(str, words), "--out", out, *more]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    return process, json.loads(process.stdout.readline())["data"]["listening"]


def certificate(process):
    said = json.loads(process.stdout.readline())["data"]["certificate"]
    return process.wait(20), said


def test_the_client_runs_again_and_sees_no_difference(model, tmp_path):
    (tmp_path / "policy.yaml").write_text(POLICY)
    key = tmp_path / "certifier.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", key], check=True)
    key.chmod(0o600)
    daemon = Daemon(tmp_path, {"model": model}, tmp_path / "policy.yaml")
    try:
        recorded = talk(f"{daemon.base}/model/v1", "talk")
        bundle = daemon.seal("talk")
        keys = tmp_path / "journal/keys"
        again = daemon.cli("replay", "run", bundle, "--keys", keys, "--key", key, "--out", tmp_path / "run.json")
        assert again["data"]["certificate"]["counts"]["matched"] == 7

        served, url = serve(bundle, tmp_path, tmp_path / "served.json", "--until-done")
        assert talk(f"{url}/model/v1", "again") == recorded
        code, said = certificate(served)
        assert (code, said["status"], said["counts"]["matched"]) == (0, "success", 7), said
        assert said["upstream_connections"] == 0
        held = daemon.cli("replay", "verify-certificate", tmp_path / "served.json", "--bundle", bundle)
        assert held["data"]["status"] == "success"

        served, url = serve(bundle, tmp_path, tmp_path / "missed.json")
        with pytest.raises(openai.InternalServerError) as raised:
            openai.OpenAI(base_url=f"{url}/model/v1", api_key="sk-test").chat.completions.create(
                model="scripted-1", messages=[{"role": "user", "content": "never asked"}]
            )
        assert raised.value.status_code == 599
        served.terminate()
        code, said = certificate(served)
        assert (code, said["status"]) == (5, "failed")
        drift = [{"code": "ARG_DRIFT", "count": 1}]
        assert said["counts"]["drift"] == drift, "the client tries again, and that counts once"
    finally:
        daemon.stop()
