"""The commands of the Kubernetes files, run with the rights that those files give, and against a real gateway.

A cluster is not here. What a kubelet would do is done by the lab: the container's user, its capabilities, a read-only
file system, an `emptyDir` that everybody may write to, secrets that everybody may read, and its probes over HTTP.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from documents import ROOT
from lab.container import HOME, STATE, Container
from lab.gateway import Offer
from lab.machines import Machine, wait_for
from lab.network import INSIDE_DNS, INSIDE_IPV4
from lab.proxies import curl
from lab.servers import DOMAIN
from lab.tools import programs
from lab.world import Lab

FILES = ROOT / "docs" / "kubernetes"
GRANT = Offer(auth="eap-mschapv2", dns=(INSIDE_DNS,), domains=(DOMAIN,))
METRICS = "http://127.0.0.1:9142"
KUBELET = """
volume() {
  mkdir -p "$1"; mount -t tmpfs -o mode=777 lab "$1"; mkdir "$1/..1"; ln -s ..1 "$1/..data"
  target=$1; shift
  for file in "$@"; do cp "$file" "$target/..1/"; ln -s "..data/${file##*/}" "$target/"; done
  chown -R "root:$group" "$target/..1"; chmod "$mode" "$target"/..1/*; mount -o remount,ro "$target"
}
mv "$1/work.toml" "$1/vpn.toml"
mode=644 group=root volume /etc/ikeclient/profiles "$1/vpn.toml" "$1/ca.pem"
mode=$3 group=$4 volume /etc/vpn-secret "$1/password" "$1/proxy-password"
rm -r "$1" "$2"; chmod 777 /run
"""
PROXY_PASSWORD = "of the proxy"


def arguments(file: str) -> list[str]:
    """The words that a file gives to `ikeclient`."""
    text = (FILES / file).read_text()
    if listed := re.search(r"^ +args: \[(.*)\]$", text, re.MULTILINE):
        words = re.findall(r'"([^"]+)"', listed[1])
    else:
        block = re.search(r"^ +args:\n((?: +- .*\n)+)", text, re.MULTILINE)
        assert block is not None, file
        words = re.findall(r"^ +- (.*)$", block[1], re.MULTILINE)
    return words


@contextmanager
def running(lab: Lab, container: Container, words: list[str]) -> Iterator[Path]:
    """The container's program; ended by SIGTERM, upon which it has to end well."""
    output = lab.client.directory / "container.stderr"
    with output.open("wb") as stderr:
        process = lab.network.client.start(
            *container.command(*words), stdout=stderr, stderr=stderr, env=container.environment
        )
    try:
        yield output
    finally:
        process.terminate()
        assert process.wait(20) == 0, output.read_text()


def ready(machine: Machine, path: str = "/readyz") -> str:
    return curl(machine, "-o", "/dev/null", "-w", "%{http_code}", METRICS + path).stdout


def wait_ready(machine: Machine, output: Path) -> None:
    """As a startup probe does."""
    wait_for(lambda: ready(machine) == "200", timeout=40, what=f"/readyz\n{output.read_text()}", interval=0.3)


def mounted(container: Container, lab: Lab, mode: str) -> None:
    """Mount profile, secrets and /run as a kubelet does: root's, of mode 0777, the first two read-only and by links.

    `mode` is that of the secret's files, whose group is the container's (fsGroup).
    """
    machine = lab.network.client
    password = {"file": "/etc/vpn-secret/password"}
    container.profile(lab.gateway, {"gateway": {"ca": ["ca.pem"]}, "auth": {"password": password}})
    machine.write_file(f"{HOME}/proxy-password", PROXY_PASSWORD)
    machine.run("sh", "-ec", KUBELET, "kubelet", HOME, STATE, mode, str(container.user))


def test_the_proxy_of_a_namespace_with_the_policy_restricted(lab: Lab) -> None:
    """As nobody, without any capability or device."""
    machine = lab.network.client
    lab.gateway.serve(GRANT)
    container = Container(client=lab.client, user=65534, capabilities=(), node="none")
    mounted(container, lab, "440")
    with running(lab, container, arguments("proxy/deployment.yaml")) as output:
        wait_ready(machine, output)
        assert ready(machine, "/healthz") == "200"
        for way in (("-x", "http://127.0.0.1:8080"), ("-x", "socks5h://127.0.0.1:1080")):
            page = curl(machine, *way, "-U", f"ikeclient:{PROXY_PASSWORD}", f"http://{INSIDE_IPV4}/peer")
            assert page.stdout == "10.88.0.1", (way, page, output.read_text())
            assert curl(machine, *way, f"http://{INSIDE_IPV4}/peer").stdout != "10.88.0.1"


@pytest.mark.extended
@pytest.mark.parametrize("file", ["sidecar/sidecar.yaml", "node/daemonset.yaml"])
def test_the_tunnel_beside_an_application_and_of_a_node(lab: Lab, file: str) -> None:
    """With NET_ADMIN alone; whoever shares the network reaches what is inside."""
    machine = lab.network.client
    lab.gateway.serve(GRANT)
    container = Container(client=lab.client)
    mounted(container, lab, "400")
    with running(lab, container, arguments(file)) as output:
        wait_ready(machine, output)
        assert container.run("status", "--check", "up").returncode == 0
        assert curl(machine, f"http://{INSIDE_IPV4}/peer").stdout == "10.88.0.1"


@pytest.fixture(scope="module")
def tools() -> Path:
    """Schemas of Kubernetes' own kinds, and a linter, in an environment of their own."""
    return programs("kubernetes", "kubernetes-validate", "yamllint", "podman-compose")


@pytest.mark.extended
@pytest.mark.timeout(500)
def test_the_compose_file_is_understood(tools: Path) -> None:
    """By podman's reader of such files, which says what it would run."""
    path = ROOT / "docs" / "compose" / "compose.yaml"
    command = [tools / "podman-compose", "-f", str(path), "config"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "NET_ADMIN" in done.stdout
    assert "service_healthy" in done.stdout


@pytest.mark.extended
@pytest.mark.timeout(500)
def test_every_file_is_what_kubernetes_knows(tools: Path) -> None:
    """No key that it would ignore, and no value that it would refuse."""
    for path in sorted(FILES.rglob("*.yaml")):
        if path.name == "kustomization.yaml":
            continue
        text = path.read_text()
        if path.name == "sidecar.yaml":  # a patch: the application has the rest
            text = text.replace("      volumes:\n", "      containers: [{ name: app, image: app }]\n      volumes:\n")
            text = text.replace("spec:\n", "spec:\n  selector: { matchLabels: { app: app } }\n", 1)
        command = [tools / "kubernetes-validate", "--strict", "-"]
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{path}: {done.stdout}{done.stderr}"
    rules = "{extends: relaxed, rules: {line-length: {max: 120}}}"
    for directory in (FILES, ROOT / "docs" / "compose"):
        subprocess.run([tools / "yamllint", "-s", "-d", rules, directory], check=True, timeout=60)


def test_a_kustomization_names_files_that_are_there() -> None:
    """And the component's patch names nothing that the application has to provide but what the page says."""
    for path in FILES.rglob("kustomization.yaml"):
        text = path.read_text()
        named = re.findall(r"^(?:resources|components|patches): \[(.*)\]$", text, re.MULTILINE)
        named += re.findall(r"- path: (\S+)$", text, re.MULTILINE)
        files = [name.strip() for names in named for name in names.split(",")]
        assert files, path
        for name in files:
            assert (path.parent / name).exists(), f"{path}: {name}"
