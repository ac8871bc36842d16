"""Assessment results of `estoppel attest`, read by compliance-trestle: a reader of OSCAL that is not ours."""

import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "clients"))
from conftest import BIN, ROOT  # noqa: E402

VECTOR = ROOT / "spec" / "pef" / "vectors" / "valid-trust"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    try:
        import trestle  # noqa: F401
    except ImportError:
        if os.environ.get("REQUIRE_REAL") == "1":
            raise
        pytest.skip("no compliance-trestle: make setup installs it")
    place = tmp_path_factory.mktemp("trestle")
    assert trestle_run(place, "init", "--local").returncode == 0
    return place


def trestle_run(place, *words):
    return subprocess.run([sys.executable, "-m", "trestle", *words], cwd=place, capture_output=True, text=True)


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    path = tmp_path_factory.mktemp("key") / "auditor.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", path], check=True, capture_output=True)
    path.chmod(0o600)
    return path


def attest(framework, key, out, *more):
    words = ["attest", "--framework", framework, "--bundle", VECTOR / "bundle.pef.zip", "--trust", VECTOR / "trust.json"]
    subprocess.run([BIN / "estoppel", *words, "--key", key, "--out", out, *more], check=True, capture_output=True)
    return out / "assessment-results.json"


def frameworks():
    return sorted(path.stem for path in (ROOT / "policies" / "frameworks").glob("*.toml"))


@pytest.mark.parametrize("framework", frameworks())
def test_trestle_takes_the_results_of_every_framework(workspace, key, tmp_path, framework):
    results = attest(framework, key, tmp_path / "out")
    done = trestle_run(workspace, "import", "-f", str(results), "-o", framework.replace(".", "-"))
    assert done.returncode == 0, done.stdout + done.stderr


def cited(place, key):
    """What a statement cites beside the bundle: a list of custody, an index, a ledger."""
    bundle, repository = place / "b.pef.zip", place / "repository"
    shutil.copy(VECTOR / "bundle.pef.zip", bundle)

    def run(*words):
        subprocess.run(words, check=True, capture_output=True)

    act = ["--action", "moved", "--from", "gateway", "--to", "safe", "--key", key, "--actor", "ada"]
    run(BIN / "estoppel", "custody", "add", bundle, *act)
    digest = hashlib.sha256(bundle.read_bytes()).hexdigest()
    copy = {
        "bucket": "evidence",
        "bytes": bundle.stat().st_size,
        "endpoint": "https://s3.test",
        "key": "gw/sha256/" + digest,
        "kind": "bundle",
        "legal_hold": False,
        "mode": "COMPLIANCE",
        "name": "b.pef.zip",
        "retain_until": "2033-11-22T05:00:00.000000Z",
        "seq": 0,
        "sha256": "sha256:" + digest,
        "ts": "2026-11-22T05:00:01.000000Z",
        "v": "archive/v0",
        "version": "v1",
    }
    index = place / "archive.ndjson"
    index.write_text(json.dumps(copy, sort_keys=True, separators=(",", ":")) + "\n")
    run("git", "init", "--quiet", repository)
    run(BIN / "estoppel", "ledger", "init", "--name", "Ada", "--key", key, "--repo", repository)
    return ["--custody", place / "b.pef.zip.custody.ndjson", "--archive", index, "--ledger", repository]


def test_trestle_takes_results_that_cite_custody_archive_and_ledger(workspace, key, tmp_path):
    results = attest("pci-dss-4.0.1", key, tmp_path / "out", *cited(tmp_path, key))
    titles = [one["title"] for one in json.loads(results.read_bytes())["assessment-results"]["back-matter"]["resources"]]
    assert [title.split(" ")[0] for title in titles] == ["The", "Sealed", "Chain", "Index", "Ledger"]
    done = trestle_run(workspace, "import", "-f", str(results), "-o", "cited")
    assert done.returncode == 0, done.stdout + done.stderr


def test_trestle_takes_results_of_a_bundle_that_a_custodian_found_damaged(workspace, key, tmp_path):
    bundle, whole = tmp_path / "b.pef.zip", (VECTOR / "bundle.pef.zip").read_bytes()
    verified = [BIN / "estoppel", "custody", "add", bundle, "--action", "verified", "--trust", VECTOR / "trust.json"]
    for content, exit_code in [(whole, 0), (whole[:999] + bytes([whole[999] ^ 1]) + whole[1000:], 2)]:
        bundle.write_bytes(content)
        done = subprocess.run([*verified, "--key", key, "--actor", "ada"], capture_output=True, text=True)
        assert done.returncode == exit_code, done.stderr
    results = attest("pci-dss-4.0.1", key, tmp_path / "out", "--custody", tmp_path / "b.pef.zip.custody.ndjson")
    first = json.loads(results.read_bytes())["assessment-results"]["results"][0]["observations"][0]
    assert first["title"].startswith("Verifications of run ") and first["description"].startswith("1 of 2 verifications")
    assert {"name": "state", "ns": "urn:estoppel:attestation:v0", "value": "failed"} in first["props"]
    done = trestle_run(workspace, "import", "-f", str(results), "-o", "damaged")
    assert done.returncode == 0, done.stdout + done.stderr


def test_trestle_refuses_results_that_are_not_of_the_model(workspace, key, tmp_path):
    results = attest("pci-dss-4.0.1", key, tmp_path / "out")
    document = json.loads(results.read_bytes())
    document["assessment-results"]["results"][0]["findings"][0]["target"]["status"]["state"] = "perfect"
    results.write_text(json.dumps(document))
    assert trestle_run(workspace, "import", "-f", str(results), "-o", "perfect").returncode != 0


def test_findings_are_only_of_controls_that_pass_or_fail(key, tmp_path):
    document = json.loads(attest("hipaa-security-rule", key, tmp_path / "hipaa").read_bytes())
    (result,) = document["assessment-results"]["results"]
    states = {finding["title"]: finding["target"]["status"]["state"] for finding in result["findings"]}
    assert states["164.312(a)(2)(i)"] == "not-satisfied" and "164.312(e)(1)" not in states
    assert len(result["observations"]) > len(states)
    document = json.loads(attest("eu-ai-act", key, tmp_path / "eu").read_bytes())
    assert "findings" not in document["assessment-results"]["results"][0]
