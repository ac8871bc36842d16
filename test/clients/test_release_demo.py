"""`make demo-release` as its user sees it."""

from conftest import ROOT
from demos import altered, run

DEMO = ROOT / "examples/release-demo"


def test_the_demo_shows_all_that_it_promises(tmp_path):
    code, out, err = run(DEMO, tmp_path)
    assert code == 0, out + err
    assert "APPROVALS_MISSING" in out and "GATE_REFUSED" in out
    assert out.count("PASSED, v") == 3 and "v1.1.0-rc.1" in out
    assert "fail     regress                  1 as expected, 1 otherwise" in out
    assert "promoted  v1.0.0 on" in out and "promoted  v1.0.1 on" in out and "promoted  v1.1.0" not in out
    assert "waived   min_evolutions" in out and "rollback/v1.0.1" in out
    assert "attestation.pdf" in out and "holds: 1 runs, 1 attestations" in out
    assert "exit 2: REFUSED KIT_ALTERED" in out


def test_a_step_that_fails_promotes_nothing(tmp_path):
    folder = altered(DEMO, tmp_path, "prove.sh", "set -e", "exit 1")
    code, out, err = run(folder, tmp_path)
    assert (code, out.count("promoted  v")) == (1, 0) and "missing: estoppel evolution start" in err, out + err


def test_a_refund_under_another_policy_promotes_nothing(tmp_path):
    folder = altered(DEMO, tmp_path, "demo.py", "{folder}/repository/policy.yaml", str(DEMO / "policy.yaml"))
    code, out, err = run(folder, tmp_path)
    assert (code, out.count("promoted  v")) == (1, 0), out + err
    assert "'gate': 'policy_hash'" in err and "'state': 'fail'" in err, err
