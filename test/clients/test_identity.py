"""Who calls: tokens of a real issuer (oauth2-mock-server), forgeries of them, API keys in the official clients, two gateways."""

import base64
import hashlib
import hmac
import http.server
import json
import os
import subprocess
import threading
import time
import urllib.error
import urllib.request

import anthropic
import openai
import pytest
from conftest import ROOT, Daemon, JsonHandler, wait_for
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric import utils as asymmetric
from test_mcp_conformance import node_24

SERVER = ROOT / "test/clients/issuer/server.mjs"
PACKAGE = ROOT / "test/node_modules/oauth2-mock-server/package.json"
HELLO = [{"role": "user", "content": "hello there"}]
CHAT = {
    "id": "c", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hi"}}],
}
MESSAGE = {
    "id": "m", "type": "message", "role": "assistant", "model": "m", "content": [{"type": "text", "text": "hi"}],
    "stop_reason": "end_turn", "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1},
}


class Upstream(http.server.ThreadingHTTPServer):
    """Answers as a model would, and keeps the headers that it got."""

    def __init__(self):
        seen = self.seen = []

        class Handler(JsonHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                self.rfile.read(int(self.headers["content-length"]))
                seen.append({name.lower(): value for name, value in self.headers.items()})
                body = json.dumps(MESSAGE if self.path.endswith("/messages") else CHAT).encode()
                self.answer(body)

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Issuer:
    def __init__(self, folder):
        log = folder / "issuer.log"
        node = str(node_24())
        self.process = subprocess.Popen([node, str(SERVER)], stdout=open(log, "wb"), stderr=subprocess.STDOUT)
        line = wait_for("the issuer", lambda: (log.read_text().splitlines() or [""])[0])
        where = json.loads(line)
        self.url, self.control = where["issuer"], where["control"]

    def ask(self, what, body=None):
        request = urllib.request.Request(f"{self.control}/{what}", data=json.dumps(body).encode())
        return json.loads(urllib.request.urlopen(request).read())

    def mint(self, kid="ES256", header=None, **claims):
        claims = {"sub": "anna", "aud": "https://gw.test", "org": "acme", **claims}
        return self.ask("mint", {"kid": kid, "claims": claims, "header": header or {}})

    def stop(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def issuer(tmp_path):
    if not PACKAGE.exists() or node_24() is None:
        what = "oauth2-mock-server or a Node of version 22 or newer"
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


def gateway(folder, upstream, issuer=None, more=""):
    folder.mkdir(exist_ok=True)
    shared = folder.parent
    for name in ["revoked", "keys.ndjson"]:
        (shared / name).touch()
    policy = folder / "policy.yaml"
    policy.write_text("version: 1\nname: who\ndefaults: { verdict: allow, on_not_evaluated: allow, body_storage: hmac }\n")
    identity = f"""
[[route]]
name = "who"
path = "/who"
strip_path = true
upstream = "model"
identity_required = true
[identity]
revoked = {{ file = "{shared}/revoked" }}
api_keys = {{ file = "{shared}/keys.ndjson" }}
"""
    if issuer:
        identity += f"""
[[identity.jwt]]
name = "mock"
issuer = "{issuer.url}"
audience = ["https://gw.test"]
jwks_url = "{issuer.url}/jwks"
tenant_claim = "org"
{more}
"""
    return Daemon(folder, {"model": upstream.url}, policy, identity)


def client(daemon, token, run="who", base="who"):
    return openai.OpenAI(base_url=f"{daemon.base}/{base}/v1", api_key=token, max_retries=0, default_headers={"estoppel-run": run})


def call(daemon, token, **more):
    return client(daemon, token, **more).chat.completions.create(model="m", messages=HELLO)


def refused(daemon, token, **more):
    """Code and challenge of a call that is not let through."""
    with pytest.raises(openai.APIStatusError) as error:
        call(daemon, token, **more)
    return error.value.status_code, error.value.code, error.value.response.headers.get("www-authenticate", "")


def b64(data):
    data = json.dumps(data).encode() if isinstance(data, dict) else data.encode() if isinstance(data, str) else data
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def parts(token):
    return [json.loads(unb64(part)) for part in token.split(".")[:2]]


def signed(key, header, claims):
    """With any header and claims, those that no library would write too."""
    message = f"{b64(header)}.{b64(claims)}".encode()
    if isinstance(key, ed25519.Ed25519PrivateKey):
        signature = key.sign(message)
    elif isinstance(key, bytes):
        signature = hmac.new(key, message, hashlib.sha256).digest()
    else:
        r, s = asymmetric.decode_dss_signature(key.sign(message, ec.ECDSA(hashes.SHA256())))
        signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    return f"{message.decode()}.{b64(signature)}"


def issuers_key(issuer, kid):
    jwk = next(key for key in issuer.ask("keys") if key["kid"] == kid)
    if jwk["kty"] == "OKP":
        return ed25519.Ed25519PrivateKey.from_private_bytes(unb64(jwk["d"]))
    return ec.derive_private_key(int.from_bytes(unb64(jwk["d"]), "big"), ec.SECP256R1())


def public_pems(issuer):
    """The issuer's public keys as somebody might take them for a shared secret."""
    jwk = next(key for key in issuer.ask("keys") if key["kty"] == "RSA")
    number = lambda name: int.from_bytes(unb64(jwk[name]), "big")  # noqa: E731
    public = rsa.RSAPublicNumbers(number("e"), number("n")).public_key()
    for form in (serialization.PublicFormat.SubjectPublicKeyInfo, serialization.PublicFormat.PKCS1):
        pem = public.public_bytes(serialization.Encoding.PEM, form)
        yield from (pem, pem.strip())


def test_a_token_of_the_issuer_says_who_calls_and_stays_here(tmp_path, issuer, upstream):
    daemon = gateway(tmp_path / "a", upstream, issuer)
    try:
        for alg in ("RS256", "ES256", "EdDSA"):
            token = issuer.mint(alg, act={"sub": "agent-7"}, jti=alg)
            assert call(daemon, token).choices[0].message.content == "hi"
            assert token not in json.dumps(upstream.seen) and "authorization" not in upstream.seen[-1]
        receipts = daemon.receipts("who")
        assert [receipt["identity"] for receipt in receipts] == [
            {"kid": alg, "kind": "token", "subject": "anna"} for alg in ("RS256", "ES256", "EdDSA")
        ]
        assert {receipt["tenant"] for receipt in receipts} == {"acme"}
        assert receipts[0]["ext"]["identity"] == {"actors": ["agent-7"], "issuer": "mock"}
        # Where no identity is asked for, a token of somebody else's is the upstream's.
        theirs = signed(ed25519.Ed25519PrivateKey.generate(), {"alg": "EdDSA"}, {"iss": "https://theirs", "sub": "x"})
        for bearer in ("sk-theirs", theirs):
            call(daemon, bearer, base="model")
            assert upstream.seen[-1]["authorization"] == f"Bearer {bearer}"
            assert refused(daemon, bearer)[:2] == (401, "TOKEN_INVALID")
    finally:
        daemon.stop()


def test_every_forgery_is_refused_and_reaches_nobody(tmp_path, issuer, upstream):
    daemon = gateway(tmp_path / "a", upstream, issuer)
    try:
        good = issuer.mint()
        header, claims = parts(good)
        own, mallory = issuers_key(issuer, "ES256"), ec.generate_private_key(ec.SECP256R1())
        numbers = mallory.public_key().public_numbers()
        jwk = {"kty": "EC", "crv": "P-256", "x": b64(numbers.x.to_bytes(32, "big")), "y": b64(numbers.y.to_bytes(32, "big"))}
        message, signature = good.rsplit(".", 1)
        twice = json.dumps(claims)[:-1] + ', "sub": "root"}'
        now = int(time.time())
        forgeries = {
            "none": f"{b64({'alg': 'none'})}.{b64(claims)}.",
            "None": f"{b64({'alg': 'None', 'kid': 'ES256'})}.{b64(claims)}.{signature}",
            "no signature": f"{message}.",
            "other claims": f"{b64(header)}.{b64({**claims, 'sub': 'root'})}.{signature}",
            "another key": signed(mallory, header, claims),
            "another key, unknown": signed(mallory, {**header, "kid": "mallory"}, claims),
            "another key, no kid": signed(mallory, {"alg": "ES256"}, claims),
            "embedded key": signed(mallory, {**header, "jwk": jwk}, claims),
            "embedded key of its own": signed(mallory, {"alg": "ES256", "kid": "mallory", "jwk": {**jwk, "kid": "mallory"}}, claims),
            "key elsewhere": signed(mallory, {**header, "jku": f"{upstream.url}/jwks", "x5u": upstream.url}, claims),
            "kid of another algorithm": signed(own, {"alg": "ES256", "kid": "RS256"}, claims),
            "kid as a path": signed(mallory, {"alg": "ES256", "kid": "../../../dev/null"}, claims),
            "crit": signed(own, {**header, "crit": ["exp"]}, claims),
            "unencoded": signed(own, {**header, "crit": ["b64"], "b64": False}, claims),
            "a logout token": signed(own, {**header, "typ": "logout+jwt"}, claims),
            "claims twice": signed(own, header, twice),
            "header twice": signed(own, json.dumps(header)[:-1] + ', "alg": "ES256"}', claims),
            "no end": issuer.mint(exp=None),
            "an end in words": issuer.mint(exp="tomorrow"),
            "no subject": issuer.mint(sub=None),
            "no tenant": issuer.mint(org=None),
            "bound to a key": issuer.mint(cnf={"jkt": "x"}),
            "huge": signed(own, header, {**claims, "x": "x" * 20_000}),
            "der": f"{message}.{b64(own.sign(message.encode(), ec.ECDSA(hashes.SHA256())))}",
            "zeros": f"{message}.{b64(bytes(64))}",
        }
        for number, pem in enumerate(public_pems(issuer)):
            forgeries[f"public key as a secret {number}"] = signed(pem, {"alg": "HS256", "kid": "RS256"}, claims)
        expected = {name: "TOKEN_INVALID" for name in forgeries}
        for name, token, code in [
            ("other audience", issuer.mint(aud="https://other.test"), "TOKEN_AUDIENCE"),
            ("no audience", issuer.mint(aud=None), "TOKEN_AUDIENCE"),
            ("expired", issuer.mint(exp=now - 60), "TOKEN_EXPIRED"),
            ("not yet", issuer.mint(nbf=now + 3600), "TOKEN_EXPIRED"),
            ("other issuer", issuer.mint(iss="https://other.test"), "TOKEN_INVALID"),
        ]:
            forgeries[name], expected[name] = token, code
        before = len(upstream.seen)
        found = {name: refused(daemon, token, run="forged") for name, token in forgeries.items()}
        assert {name: code for name, (_, code, _) in found.items()} == expected
        assert {status for status, _, _ in found.values()} == {401}
        assert all('error="invalid_token"' in challenge for _, _, challenge in found.values())
        assert len(upstream.seen) == before, "nothing went upstream"
        assert call(daemon, signed(own, header, claims)), "the same hands make a good one"
        receipts = daemon.receipts("forged")
        assert len(receipts) == len(forgeries)
        assert all(receipt["identity"] == {"kind": "none"} and "tenant" not in receipt for receipt in receipts)
        assert daemon.metric("estoppel_outcomes_total", code="TOKEN_EXPIRED", route="who") == 2
        log = (tmp_path / "a/estoppeld.log").read_text()
        assert not any(token.split(".")[1] in log for token in forgeries.values())
    finally:
        daemon.stop()


def test_new_keys_are_taken_at_once_and_nobody_makes_the_gateway_ask_without_end(tmp_path, issuer, upstream):
    daemon = gateway(tmp_path / "a", upstream, issuer)
    try:
        assert call(daemon, issuer.mint())
        assert issuer.ask("asked") == 1
        issuer.ask("key", {"alg": "ES256", "kid": "next"})
        assert call(daemon, issuer.mint("next")), "an unknown key is asked for while the call waits"
        assert issuer.ask("asked") == 2
        mallory = ec.generate_private_key(ec.SECP256R1())
        header, claims = parts(issuer.mint())
        started = time.monotonic()
        for number in range(40):
            token = signed(mallory, {**header, "kid": f"unknown-{number}"}, claims)
            assert refused(daemon, token)[1] == "TOKEN_INVALID"
        allowed = 1 + (time.monotonic() - started) / 5
        assert issuer.ask("asked") - 2 <= allowed
        assert call(daemon, issuer.mint("next")) and call(daemon, issuer.mint("RS256"))
    finally:
        daemon.stop()


def test_an_issuer_that_is_down_lets_nobody_in_and_known_keys_go_on(tmp_path, issuer, upstream):
    issuer.ask("down", True)
    daemon = gateway(tmp_path / "a", upstream, issuer)
    try:
        assert refused(daemon, issuer.mint())[:2] == (503, "ISSUER_DOWN")
        forged = signed(ed25519.Ed25519PrivateKey.generate(), {"alg": "EdDSA"}, parts(issuer.mint())[1])
        assert refused(daemon, forged)[1] == "ISSUER_DOWN"
        assert upstream.seen == []
        issuer.ask("down", False)
        wait_for("the issuer's keys", lambda: accepted(daemon, issuer.mint()))
        issuer.ask("down", True)
        assert call(daemon, issuer.mint("EdDSA"))
        assert daemon.metric("estoppel_issuer_fetches_total", issuer="mock", result="failed") >= 1
    finally:
        daemon.stop()


def accepted(daemon, token):
    try:
        return bool(call(daemon, token))
    except openai.APIStatusError:
        return False


def test_an_api_key_is_enough_for_the_official_clients(tmp_path, upstream):
    daemon = gateway(tmp_path / "a", upstream)
    try:
        file = tmp_path / "keys.ndjson"
        words = ["identity", "key", "new", "--subject", "nightly", "--tenant", "acme", "--file", file]
        key = daemon.cli(*words)["data"]["key"]
        wait_for("the key", lambda: accepted(daemon, key))
        told = anthropic.Anthropic(base_url=f"{daemon.base}/who", api_key=key, max_retries=0, default_headers={"estoppel-run": "sdk"})
        assert told.messages.create(model="m", max_tokens=9, messages=HELLO).content[0].text == "hi"
        assert call(daemon, key, run="sdk")
        wrong = key[:-1] + ("A" if key[-1] != "A" else "B")
        with pytest.raises(anthropic.AuthenticationError) as refusal:
            told.with_options(api_key=wrong).messages.create(model="m", max_tokens=9, messages=HELLO)
        assert "API_KEY_INVALID" in str(refusal.value)
        with pytest.raises(openai.AuthenticationError):
            call(daemon, wrong, run="sdk")
        assert key not in json.dumps(upstream.seen)
        receipts = daemon.receipts("sdk")
        subjects = [receipt["identity"].get("subject") for receipt in receipts]
        assert subjects == ["nightly", "nightly", None, None]
        assert receipts[0]["tenant"] == "acme"
    finally:
        daemon.stop()


def test_two_gateways_take_the_same_tokens_and_both_refuse_what_is_revoked(tmp_path, issuer, upstream):
    daemons = [gateway(tmp_path / name, upstream, issuer) for name in ("a", "b")]
    try:
        stolen, other = issuer.mint(jti="stolen"), issuer.mint(jti="other")
        acting = issuer.mint(jti="acting", act={"sub": "agent-7"})
        for daemon in daemons:
            assert call(daemon, stolen) and call(daemon, other) and call(daemon, acting)
        (tmp_path / "revoked").write_text("jti stolen\nsubject agent-7\n")
        for daemon in daemons:
            wait_for("the token is taken back", lambda: not accepted(daemon, stolen))
            assert refused(daemon, stolen)[1] == "IDENTITY_REVOKED"
            assert refused(daemon, acting)[1] == "IDENTITY_REVOKED", "who acts for somebody is revoked too"
            assert call(daemon, other)
    finally:
        for daemon in daemons:
            daemon.stop()
