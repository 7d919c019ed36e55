"""Metrics of a running tunnel, read by curl and by a real Prometheus."""

from __future__ import annotations

import json
import re
import shutil
import urllib.parse
from pathlib import Path

import pytest
from lab.client import Connection
from lab.gateway import Offer
from lab.machines import wait_for
from lab.network import INSIDE_IPV4
from lab.traffic import ping
from lab.world import Lab

PORT = "9142"
RULES = Path(__file__).resolve().parents[2] / "docs" / "monitoring" / "alerts.yml"


def ask(lab: Lab, path: str) -> tuple[int, str]:
    done = lab.network.client.run("curl", "-sS", "-w", "\n%{http_code}", f"http://127.0.0.1:{PORT}{path}")
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


def metric(text: str, name: str) -> float:
    found = re.search(rf"^ikeclient_{name}\{{[^\n]*\}} (\S+)$", text, re.MULTILINE)
    assert found is not None, text
    return float(found[1])


def measured(lab: Lab, offer: Offer | None = None) -> Connection:
    return lab.connected(offer, "--metrics", PORT)


def test_counters_go_on_through_rekeys_and_readiness_follows_the_tunnel(lab: Lab) -> None:
    connection = measured(lab, Offer(auth="certificate"))
    assert ping(lab.network.client, INSIDE_IPV4) == 3
    assert ask(lab, "/healthz") == (200, "ok\n")
    assert ask(lab, "/readyz") == (200, "connected\n")
    before = ask(lab, "/metrics")[1]
    assert metric(before, "sent_packets_total") >= 3
    assert 'side="gateway",subject="' in before
    assert 'side="local",subject="' in before
    spi = lab.status()["children"][0]["spi_in"]
    lab.gateway.rekey(child="net")
    wait_for(
        lambda: [child["spi_in"] for child in lab.status()["children"]] not in ([], [spi]), timeout=10, what="a rekey"
    )
    assert ping(lab.network.client, INSIDE_IPV4) == 3
    after = ask(lab, "/metrics")[1]
    for name in ("sent_packets_total", "received_packets_total", "sent_bytes_total"):
        assert metric(after, name) > metric(before, name)
    assert 'ikeclient_rekeys_total{tunnel="work",sa="child"} 1' in after
    printed = lab.client.run("metrics").stdout
    assert metric(printed, "sent_packets_total") >= metric(after, "sent_packets_total")
    file = lab.client.directory / "work.prom"
    lab.client.run("metrics", "--textfile", str(file))
    assert metric(file.read_text(), "up") == 1
    assert oct(file.stat().st_mode & 0o777) == "0o644"
    lab.gateway.stop()
    lab.client.run("reconnect", "work")
    wait_for(lambda: ask(lab, "/readyz")[0] == 503, timeout=30, what="an answer that it is not ready")
    assert ask(lab, "/healthz")[0] == 200
    assert metric(ask(lab, "/metrics")[1], "sent_packets_total") >= metric(after, "sent_packets_total")
    assert connection.terminate() == 0


@pytest.mark.extended
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs Debian's package prometheus")
def test_a_prometheus_scrapes_it_and_its_rules_are_right(lab: Lab, tmp_path: Path) -> None:
    measured(lab)
    machine = lab.network.client
    machine.run("promtool", "check", "rules", str(RULES))
    config = tmp_path / "prometheus.yml"
    config.write_text(
        f"rule_files: [{RULES}]\nscrape_configs:\n"
        "  - job_name: ikeclient\n    scrape_interval: 1s\n"
        f"    static_configs: [{{ targets: ['127.0.0.1:{PORT}'] }}]\n"
    )
    machine.run("promtool", "check", "config", str(config))
    storage = tmp_path / "storage"
    where = f"--config.file={config}", f"--storage.tsdb.path={storage}", "--web.listen-address=127.0.0.1:9090"
    machine.start("prometheus", *where)

    def query(expression: str) -> list[dict[str, object]]:
        url = f"http://127.0.0.1:9090/api/v1/query?query={urllib.parse.quote(expression)}"
        answer = machine.run("curl", "-s", url, check=False).stdout
        return json.loads(answer)["data"]["result"] if answer.startswith("{") else []  # type: ignore[no-any-return]

    wait_for(lambda: query("ikeclient_up == 1"), timeout=30, what="a scrape", interval=0.5)
    assert len(query("ikeclient_state")) == 6
    assert query("ikeclient_tunnel_info")[0]["metric"]["gateway"] == "10.1.0.1"  # type: ignore[index]
