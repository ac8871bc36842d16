"""The rules of deploy/prometheus in a real Prometheus that scrapes a daemon, and the way of an alert to a real Alertmanager."""

import json
import os
import shutil
import signal
import subprocess
import urllib.request

import pytest
from conftest import POLICY, ROOT, Recorder, clients

PARTS = ("prometheus", "prometheus-alertmanager", "/usr/share/prometheus/alertmanager/default.tmpl")


def fetch(port, path):
    try:
        return json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}{path}"))
    except OSError:
        return None


def start(folder, name, *words):
    with open(folder / f"{name}.log", "wb") as out:
        return subprocess.Popen([shutil.which(name), *words], stdout=out, stderr=out, cwd=folder)


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """A daemon, Prometheus over it, Alertmanager behind that, and what Alertmanager's receiver is sent."""
    for name in PARTS:
        if shutil.which(name) is None and not os.path.exists(name):
            assert os.environ.get("REQUIRE_REAL") != "1", f"{name} is missing"
            pytest.skip(f"{name} is missing (make setup brings it)")
    folder = tmp_path_factory.mktemp("watched")
    (folder / "policy.yaml").write_text(POLICY)
    receiver = Recorder()
    daemon = clients.Daemon(folder, {"nobody": "http://127.0.0.1:9"}, folder / "policy.yaml")
    prometheus, alertmanager = clients.free_port(), clients.free_port()
    (folder / "alertmanager.yml").write_text(f"""
route: {{ receiver: hook, group_by: [alertname], group_wait: 0s, group_interval: 1s }}
receivers: [{{ name: hook, webhook_configs: [{{ url: "http://127.0.0.1:{receiver.server_port}/hook" }}] }}]
""")
    (folder / "prometheus.yml").write_text(f"""
global: {{ scrape_interval: 1s, evaluation_interval: 1s }}
rule_files: ["{ROOT}/deploy/prometheus/recording.yml", "{ROOT}/deploy/prometheus/alerts.yml"]
scrape_configs: [{{ job_name: estoppel, static_configs: [{{ targets: ["{daemon.admin}"] }}] }}]
alerting: {{ alertmanagers: [{{ static_configs: [{{ targets: ["127.0.0.1:{alertmanager}"] }}] }}] }}
""")
    processes = [
        start(
            folder,
            "prometheus-alertmanager",
            "--config.file=alertmanager.yml",
            "--storage.path=alertmanager",
            f"--web.listen-address=127.0.0.1:{alertmanager}",
            "--cluster.listen-address=",
        ),
        start(
            folder,
            "prometheus",
            "--config.file=prometheus.yml",
            "--storage.tsdb.path=prometheus",
            f"--web.listen-address=127.0.0.1:{prometheus}",
        ),
    ]
    try:
        clients.wait_for("Alertmanager", lambda: fetch(alertmanager, "/api/v2/status"))
        clients.wait_for("Prometheus", lambda: fetch(prometheus, "/api/v1/status/runtimeinfo"))
        yield daemon, prometheus, alertmanager, receiver, folder
    finally:
        for process in processes:
            process.kill()
            process.wait()
        daemon.stop()
        receiver.shutdown()


def query(prometheus, expression):
    answer = fetch(prometheus, "/api/v1/query?query=" + urllib.request.quote(expression))
    return answer["data"]["result"] if answer else []


def rules(prometheus):
    answer = fetch(prometheus, "/api/v1/rules?type=alert")
    return [rule for group in answer["data"]["groups"] for rule in group["rules"]] if answer else []


def test_a_rule_that_fires_reaches_a_receiver_of_alertmanager(watched):
    daemon, prometheus, alertmanager, receiver, folder = watched
    # Two scrapes, and every rule evaluated after them: a daemon that is well raises nothing.
    clients.wait_for("two scrapes", lambda: query(prometheus, "count_over_time(up{job='estoppel'}[1m]) >= 2"))
    evaluated = lambda: (found := rules(prometheus)) and all(rule["evaluationTime"] > 0 for rule in found) and found
    assert all(rule["health"] == "ok" and rule["state"] == "inactive" for rule in clients.wait_for("rules", evaluated))
    assert query(prometheus, 'estoppel_reloads_total{result="refused"}')[0]["value"][1] == "0"
    assert fetch(alertmanager, "/api/v2/alerts") == [] and receiver.requests == []

    with open(folder / "estoppeld.toml", "a") as config:
        config.write("\ncolour = 1\n")
    daemon.process.send_signal(signal.SIGHUP)
    clients.wait_for("a refused reload", lambda: daemon.metric("estoppel_reloads_total", result="refused") == 1)
    clients.wait_for("a notification", lambda: receiver.requests)
    path, _, body = receiver.requests[0]
    message = json.loads(body)
    (alert,) = message["alerts"]
    assert (path, message["status"], alert["status"]) == ("/hook", "firing", "firing")
    assert alert["labels"] == {
        "alertname": "EstoppelReloadRefused",
        "instance": daemon.admin,
        "job": "estoppel",
        "result": "refused",
        "severity": "ticket",
    }
    assert daemon.admin in alert["annotations"]["summary"]
    (held,) = fetch(alertmanager, "/api/v2/alerts")
    assert held["labels"] == alert["labels"]
