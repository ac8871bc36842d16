"""Tokens for upstreams, exchanged at an authorization server that authenticates the gateway and keeps what it issues (oidc-provider)."""

import base64
import json
import os
import subprocess
import threading
import urllib.parse
import urllib.request

import openai
import pytest
from conftest import ROOT, Daemon, wait_for
from test_identity import Upstream
from test_mcp_conformance import node_24

SERVER = ROOT / "test/clients/issuer/exchange.mjs"
PACKAGE = ROOT / "test/node_modules/oidc-provider/package.json"
HELLO = [{"role": "user", "content": "hello there"}]
POLICY = "version: 1\nname: broker\ndefaults: { verdict: allow, on_not_evaluated: allow, body_storage: hmac }\n"


def secret_of(client):
    return f"secret-of-{client}/+&="


class Issuer:
    def __init__(self, folder):
        log = folder / "issuer.log"
        self.process = subprocess.Popen([str(node_24()), str(SERVER)], stdout=open(log, "wb"), stderr=subprocess.DEVNULL)
        self.url = json.loads(wait_for("the issuer", lambda: (log.read_text().splitlines() or [""])[0]))["issuer"]

    def ask(self, path, client, **form):
        pair = f"{client}:{urllib.parse.quote(secret_of(client), safe='')}"
        basic = base64.b64encode(pair.encode()).decode()
        body = urllib.parse.urlencode(form).encode()
        request = urllib.request.Request(self.url + path, data=body, headers={"authorization": f"Basic {basic}"})
        return json.loads(urllib.request.urlopen(request).read())

    def token(self):
        return self.ask("/token", "app", grant_type="client_credentials", scope="chat")["access_token"]

    def about(self, token):
        return self.ask("/token/introspection", "gateway", token=token)

    def exchanged(self):
        return int(urllib.request.urlopen(self.url + "/exchanged").read())

    def stop(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def issuer(tmp_path):
    if not PACKAGE.exists() or node_24() is None:
        what = "oidc-provider or a Node of version 22 or newer"
        if os.environ.get("REQUIRE_REAL") == "1":
            pytest.fail(f"{what} is missing")
        pytest.skip(f"SKIPPED: {what} is not installed (make setup)")
    started = Issuer(tmp_path)
    yield started
    started.stop()


@pytest.fixture
def upstream():
    started = Upstream()
    yield started
    started.shutdown()
    started.server_close()


def gateway(folder, upstream, issuer, secret=None, audience="https://model.test"):
    folder.mkdir()
    policy, file = folder / "policy.yaml", folder / "client-secret"
    policy.write_text(POLICY)
    file.write_text(secret or secret_of("gateway"))
    file.chmod(0o600)
    more = f"""
[server]
credentials_required = true
[upstream.model.credential.token_exchange]
token_url = "{issuer.url}/token"
audience = "{audience}"
scope = "chat"
client_id = "gateway"
client_secret = "{file}"
"""
    return Daemon(folder, {"model": upstream.url}, policy, more)


def call(daemon, token):
    client = openai.OpenAI(base_url=f"{daemon.base}/model/v1", api_key=token, max_retries=0, default_headers={"estoppel-run": "broker"})
    return client.chat.completions.create(model="m", messages=HELLO)


def refused(daemon, token):
    with pytest.raises(openai.APIStatusError) as error:
        call(daemon, token)
    return error.value.status_code, error.value.code


def test_the_upstream_gets_a_token_that_was_issued_to_the_gateway_and_never_the_client_s(tmp_path, issuer, upstream):
    token, other = issuer.token(), issuer.token()
    daemon = gateway(tmp_path / "a", upstream, issuer)
    try:
        threads = [threading.Thread(target=call, args=(daemon, token)) for _ in range(4)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        used = {seen["authorization"] for seen in upstream.seen}
        assert len(upstream.seen) == 4 and len(used) == 1 and issuer.exchanged() == 1
        about = issuer.about(used.pop().removeprefix("Bearer "))
        assert {name: about[name] for name in ("active", "client_id", "subject", "audience", "scope")} == {
            "active": True, "client_id": "gateway", "subject": "app", "audience": "https://model.test", "scope": "chat",
        }
        call(daemon, other)
        assert issuer.exchanged() == 2 and upstream.seen[-1] != upstream.seen[0]
        assert refused(daemon, "nobody-s") == (401, "CREDENTIAL_MISSING")
        said = json.dumps(upstream.seen) + (tmp_path / "a/estoppeld.log").read_text()
        assert len(upstream.seen) == 5 and token not in said and other not in said
        codes = [receipt["outcome"]["code"] for receipt in daemon.receipts("broker")]
        assert codes == ["OK"] * 5 + ["CREDENTIAL_MISSING"]
    finally:
        daemon.stop()


@pytest.mark.parametrize("wrong", [{"secret": "guessed"}, {"audience": "https://elsewhere.test"}])
def test_a_gateway_that_the_issuer_refuses_says_so_and_sends_nothing(tmp_path, issuer, upstream, wrong):
    token = issuer.token()
    daemon = gateway(tmp_path / "a", upstream, issuer, **wrong)
    try:
        assert refused(daemon, token) == (503, "CREDENTIAL_FAILED")
        assert upstream.seen == [] and issuer.exchanged() == 0
    finally:
        daemon.stop()
