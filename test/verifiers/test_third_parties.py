"""Tools that are not ours check what we made: openssl, sha256sum, securesystemslib, and the verifiers after one flipped byte."""

import base64
import hashlib
import json
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "clients"))
from conftest import BIN, ROOT, Daemon, free_port, gateway, model, wait_for  # noqa: E402,F401


def pae(kind, body):
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(body), body)


@pytest.fixture(scope="module")
def bundle(gateway):  # noqa: F811
    import openai

    api = openai.OpenAI(
        base_url=f"{gateway.base}/model/v1", api_key="sk-test", max_retries=0, default_headers={"estoppel-run": "third-parties"}
    )
    api.chat.completions.create(model="scripted-1", messages=[{"role": "user", "content": "hello"}])
    for _ in api.chat.completions.create(model="scripted-1", messages=[{"role": "user", "content": "hello"}], stream=True):
        pass
    return gateway.seal("third-parties")


@pytest.fixture(scope="module")
def folder(bundle, tmp_path_factory):
    out = tmp_path_factory.mktemp("bundle")
    zipfile.ZipFile(bundle).extractall(out)
    return out


def manifest(folder):
    return json.loads((folder / "manifest.json").read_bytes())


def key_file(folder, use):
    (row,) = [key for key in manifest(folder)["keys"] if key["use"] == use]
    return folder / "keys" / f"{use}-{row['kid']}.pem"


def openssl(*words):
    return subprocess.run(["openssl", *map(str, words)], capture_output=True, text=True)


def test_sha256sum_checks_every_file(folder):
    done = subprocess.run(["sha256sum", "--strict", "--check", "SHA256SUMS"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(": OK") == len([p for p in folder.rglob("*") if p.is_file()]) - 1


def test_openssl_checks_the_checkpoint(folder, tmp_path):
    text, signature = (folder / "checkpoint").read_text().split("\n\n")
    blob = base64.b64decode(signature.strip().rsplit(" ", 1)[1])
    (tmp_path / "text").write_bytes((text + "\n").encode())
    (tmp_path / "sig").write_bytes(blob[4:])
    verify = ["pkeyutl", "-verify", "-pubin", "-inkey", key_file(folder, "checkpoint"), "-rawin", "-in", tmp_path / "text", "-sigfile", tmp_path / "sig"]
    assert openssl(*verify).returncode == 0
    (tmp_path / "text").write_bytes((text.replace("\n", "\n1", 1) + "\n").encode())
    assert openssl(*verify).returncode != 0


def test_openssl_checks_a_receipt(folder, tmp_path):
    lines = (folder / "receipts.ndjson").read_bytes().split(b"\n")[:-1]
    signatures = (folder / "receipts.sig").read_bytes()
    for seq, line in enumerate(lines):
        (tmp_path / "pae").write_bytes(pae(b"application/vnd.estoppel.pef.entry.v0+json", line))
        (tmp_path / "sig").write_bytes(signatures[64 * seq : 64 * seq + 64])
        done = openssl("pkeyutl", "-verify", "-pubin", "-inkey", key_file(folder, "receipt"), "-rawin", "-in", tmp_path / "pae", "-sigfile", tmp_path / "sig")
        assert done.returncode == 0, f"seq {seq}: {done.stderr}"


def test_python_recomputes_the_root(folder):
    def tree(leaves):
        if len(leaves) == 1:
            return leaves[0]
        k = 1 << (len(leaves) - 1).bit_length() - 1
        return hashlib.sha256(b"\x01" + tree(leaves[:k]) + tree(leaves[k:])).digest()

    lines = (folder / "receipts.ndjson").read_bytes().split(b"\n")[:-1]
    root = tree([hashlib.sha256(b"\x00" + line).digest() for line in lines])
    assert manifest(folder)["tree"] == {"root": f"root:{root.hex()}", "size": len(lines)}


def test_securesystemslib_checks_the_statement(folder):
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import SSlibKey

    envelope = Envelope.from_dict(
        {
            **(raw := json.loads((folder / "manifest.dsse.json").read_bytes())),
            "signatures": [{"keyid": s["keyid"], "sig": s["sig"]} for s in raw["signatures"]],
        }
    )
    (row,) = [key for key in manifest(folder)["keys"] if key["use"] == "manifest"]
    key = SSlibKey(row["kid"], "ed25519", "ed25519", {"public": base64.b64decode(row["spki"])[12:].hex()})
    assert envelope.verify([key], 1)
    statement = json.loads(envelope.payload)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    for subject in statement["subject"]:
        assert hashlib.sha256((folder / subject["name"]).read_bytes()).hexdigest() == subject["digest"]["sha256"]


def verifiers():
    return {
        "estoppel": [BIN / "estoppel", "verify", "--json"],
        "python": [sys.executable, ROOT / "spec/verifiers/python/pef_verify.py", "--json"],
        "javascript": ["node", ROOT / "spec/verifiers/javascript/pef-verify.mjs", "--json"],
    }


def judge(command, path):
    done = subprocess.run([*map(str, command), str(path)], capture_output=True, text=True)
    answer = json.loads(done.stdout)
    answer = answer.get("data", answer)
    return done.returncode, answer["reason"], answer["seq"]


def test_three_verifiers_agree_on_the_bundle_and_on_every_flipped_byte(bundle, tmp_path):
    whole = bundle.read_bytes()
    for name, command in verifiers().items():
        assert judge(command, bundle) == (0, None, None), name
    at = whole.index(b'"kind":"call"') + 9
    places = [at, 40, len(whole) - 30, len(whole) // 2, len(whole) // 3]
    for place in places:
        copy = tmp_path / f"{place}.pef.zip"
        copy.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        answers = {name: judge(command, copy) for name, command in verifiers().items()}
        assert len(set(answers.values())) == 1, f"byte {place}: {answers}"
        assert next(iter(answers.values()))[0] == 2, f"byte {place}: {answers}"
        if place == at:
            assert next(iter(answers.values()))[2] is not None, "the sequence number is named"


def test_a_sealed_run_can_be_sealed_only_once(gateway, bundle):  # noqa: F811
    refused = gateway.cli("seal", "third-parties", "--admin", gateway.admin, code=6)
    assert refused["error"]["code"] == "RUN_SEALED"


def test_the_bundle_holds_no_planted_secret(bundle, gateway):  # noqa: F811
    import openai

    secret = "sk-planted-4f1d2c"
    api = openai.OpenAI(base_url=f"{gateway.base}/model/v1", api_key=secret, max_retries=0, default_headers={"estoppel-run": "planted"})
    api.chat.completions.create(model="scripted-1", messages=[{"role": "user", "content": f"my secret is {secret}"}])
    sealed = gateway.seal("planted").read_bytes()
    assert secret.encode() not in sealed
    for path in (gateway.folder / "journal").rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path
    assert shutil.which("grep")
