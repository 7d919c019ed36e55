"""The list of parts (SBOM), in CycloneDX's JSON: what an installation consists of, its licences and its files.

It is read off the wheels themselves, so it says what they say. `python -m release.sbom OUT` runs among the build tools,
which have CycloneDX's schema to hold it against.
"""

from __future__ import annotations

import hashlib
import json
import sys
import uuid
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from release import tools
from release.lock import read as read_lock
from release.tools import ROOT, TOOLS, ReleaseError, run, say
from release.wheels import read as read_wheel

VERSION = "1.6"


@dataclass(slots=True)
class Part:
    """A package, by what its wheels say."""

    metadata: Message
    files: list[Path] = field(default_factory=list)

    @property
    def name(self) -> str:
        """As the index spells it."""
        return canonicalize_name(self.metadata["Name"])

    @property
    def reference(self) -> str:
        """What the list calls it: its package URL."""
        return f"pkg:pypi/{self.name}@{self.metadata['Version']}"

    def needs(self, *, extras: bool = False) -> set[str]:
        """The names of what it requires, on any platform; with what its extras do if `extras`."""
        required = map(Requirement, self.metadata.get_all("Requires-Dist", []))
        return {canonicalize_name(each.name) for each in required if extras or "extra" not in str(each.marker or "")}

    def licences(self) -> list[dict[str, Any]]:
        """As an expression where it has one."""
        expression = self.metadata["License-Expression"]
        if expression:
            return [{"expression": expression}]
        classified = (line.split(" :: ") for line in self.metadata.get_all("Classifier", []))
        names = [parts[-1] for parts in classified if parts[0] == "License" and parts[-1] != "OSI Approved"]
        stated = self.metadata["License"]
        if not names and stated and "\n" not in stated:
            names = [stated]
        return [{"license": {"name": name}} for name in sorted(names)]


def build(out: Path) -> None:
    """The list beside the wheels."""
    run(tools.python(), "-m", "release.sbom", out, cwd=ROOT, env=tools.environment())
    say("made the list of parts")


def parts(house: Path) -> dict[str, Part]:
    """The packages of a wheelhouse by name."""
    found: dict[str, Part] = {}
    for wheel in sorted(house.glob("*.whl")):
        contents = read_wheel(wheel)
        (name,) = (name for name in contents if name.endswith(".dist-info/METADATA") and name.count("/") == 1)
        part = Part(message_from_bytes(contents[name]))
        found.setdefault(part.name, part).files.append(wheel)
    return found


def document(found: dict[str, Part]) -> dict[str, Any]:
    """The list as CycloneDX has it."""
    compiled = next(each for each in read_lock(TOOLS) if each.name == "cython")
    cython = f"pkg:pypi/cython@{compiled.version}"
    own = found["ikeclient"]
    optional = own.needs(extras=True) - own.needs()
    components = [
        {**_component(part), **({"scope": "optional"} if name in optional else {})}
        for name, part in found.items()
        if part is not own
    ]
    inside = {
        "type": "library",
        "bom-ref": cython,
        "name": "cython",
        "version": compiled.version,
        "purl": cython,
        "licenses": [{"license": {"id": "Apache-2.0"}}],
        "description": "Its support code is compiled into the module of the codec; nothing of it is installed.",
    }
    needs: dict[str, list[str]] = defaultdict(list)
    for part in found.values():
        names = part.needs(extras=part is own)  # what comes along with extras of ours is in the wheelhouse as well
        needs[part.reference] = sorted(found[name].reference for name in names if name in found)
    needs[own.reference].append(cython)
    needs[cython] = []
    when = datetime.fromtimestamp(tools.commit_time(), UTC).isoformat().replace("+00:00", "Z")
    body = {
        "metadata": {"timestamp": when, "component": {**_component(own), "type": "application"}},
        "components": sorted([*components, inside], key=lambda each: each["name"]),
        "dependencies": [{"ref": ref, "dependsOn": sorted(on)} for ref, on in sorted(needs.items())],
    }
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(body, sort_keys=True))
    head = {"bomFormat": "CycloneDX", "specVersion": VERSION, "serialNumber": f"urn:uuid:{serial}", "version": 1}
    return {"$schema": f"http://cyclonedx.org/schema/bom-{VERSION}.schema.json", **head, **body}


def _component(part: Part) -> dict[str, Any]:
    licences = part.licences()
    return {
        "type": "library",
        "bom-ref": part.reference,
        "name": part.name,
        "version": part.metadata["Version"],
        "purl": part.reference,
        **({"description": part.metadata["Summary"]} if part.metadata["Summary"] else {}),
        **({"licenses": licences} if licences else {}),
        "externalReferences": [
            {
                "type": "distribution",
                "url": file.name,
                "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(file.read_bytes()).hexdigest()}],
            }
            for file in part.files
        ],
    }


def faults(text: str) -> Iterator[str]:
    """What CycloneDX's schema has against a list."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    errors = JsonStrictValidator(SchemaVersion.from_version(VERSION)).validate_str(text, all_errors=True)
    yield from (str(error) for error in errors or ())


def main() -> None:
    """Write it, and hold it against the schema."""
    if sys.argv[1] == "--validate":
        wrong = list(faults(Path(sys.argv[2]).read_text()))
        sys.exit("\n".join(wrong) or 0)
    out = Path(sys.argv[1])
    found = parts(out / "wheelhouse")
    text = json.dumps(document(found), indent=2, ensure_ascii=False) + "\n"
    wrong = list(faults(text))
    if wrong:
        raise ReleaseError("the list of parts does not fit the schema: " + "; ".join(wrong)[:2000])
    (out / f"ikeclient-{found['ikeclient'].metadata['Version']}.cdx.json").write_text(text)


if __name__ == "__main__":
    main()
