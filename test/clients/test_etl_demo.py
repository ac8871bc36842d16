"""`make demo-etl` as its user sees it."""

import os
import sys

import pytest

from conftest import ROOT
from demos import altered, run

DEMO = ROOT / "examples/etl-demo"
sys.path.insert(0, str(DEMO))
import database  # noqa: E402


def has_postgres():
    return database.programs() or os.environ.get("REQUIRE_REAL") == "1"


pytestmark = pytest.mark.skipif(not has_postgres(), reason="needs PostgreSQL of Debian")


def test_the_demo_shows_all_that_it_promises(tmp_path):
    code, out, err = run(DEMO, tmp_path)
    assert code == 0, out + err
    for tool in ("extract", "transform", "load"):
        assert f"{tool}, call " in out
    assert out.count(" pre  sha256:") == out.count(" post sha256:") == 3
    assert "schema: add /columns/public/daily_totals/currency" in out and out.count("schema: as before") == 2
    assert "1 of public.daily_totals" in out and "3 of public.raw_orders" in out
    assert '"comment": "rows written beside calls: 1 name no call"' in out
    assert "success, 3 of 3 calls" in out and "again, offline: success" in out
    assert "failed at seq 2, transform, call " in out and "BODY_DRIFT, BUNDLE_INVALID" in out


def test_the_demo_fails_where_a_tool_does_not_say_its_call(tmp_path):
    folder = altered(DEMO, tmp_path, "tools.py", 'asked["call"] = self.headers["estoppel-call"] or ""', 'asked["call"] = "0" * 32')
    code, out, err = run(folder, tmp_path)
    assert (code, out.count("status")) == (1, 0) and "missing: " in err, out + err


def test_the_demo_fails_where_nobody_looks_at_the_database(tmp_path):
    folder = altered(DEMO, tmp_path, "policy.yaml", "snapshot: { source: shop, mode: enforce }", "verdict: allow")
    code, out, err = run(folder, tmp_path)
    assert (code, out.count("status")) == (1, 0) and "missing: " in err, out + err
