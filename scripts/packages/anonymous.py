"""Take out of a docker archive what buildah writes of its own: the names of the container that the image was made in.

With them, no two images were the same. Usage: anonymous.py ARCHIVE, which is replaced.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tarfile
from pathlib import Path


def main(archive: Path) -> None:
    with tarfile.open(archive) as old, tarfile.open(archive.with_suffix(".new"), "w") as new:
        [manifest] = json.load(_open(old, "manifest.json"))
        config = json.load(_open(old, manifest["Config"]))
        config.pop("container", None)
        for name in ("config", "container_config"):
            config.get(name, {}).pop("Hostname", None)
        text = json.dumps(config, sort_keys=True).encode()
        manifest["Config"] = f"{hashlib.sha256(text).hexdigest()}.json"
        for layer in manifest["Layers"]:
            _add(new, layer, _open(old, layer), old.getmember(layer).size)
        _add(new, manifest["Config"], io.BytesIO(text), len(text))
        listed = json.dumps([manifest]).encode()
        _add(new, "manifest.json", io.BytesIO(listed), len(listed))
    archive.with_suffix(".new").replace(archive)


def _open(archive: tarfile.TarFile, name: str) -> io.BufferedReader:
    found = archive.extractfile(name)
    assert found is not None, name
    return found


def _add(archive: tarfile.TarFile, name: str, content: io.BufferedIOBase, size: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o444
    archive.addfile(entry, content)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
