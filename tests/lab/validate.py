"""Hold JSON documents against JSON Schemas with Debian's jsonschema: python3 validate.py < {"NAME": [document, ...]}

NAME is that of a file in `ikeclient/schemas`, or a path. Prints what is wrong, a line each. A key that a schema does
not name is wrong here, although a reader has to expect that later versions have more.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

SCHEMAS = Path(__file__).resolve().parents[2] / "ikeclient" / "schemas"


def closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: closed(value) for key, value in schema.items()}
    if isinstance(made.get("properties"), dict) and "type" in made:
        made.setdefault("additionalProperties", False)
    return made


def main() -> None:
    from jsonschema import Draft202012Validator  # Debian's, for the Python of the system

    for name, documents in json.load(sys.stdin).items():
        path = Path(name) if "/" in name else SCHEMAS / f"{name}.schema.json"
        schema = json.loads(path.read_text())
        Draft202012Validator.check_schema(schema)
        validator = Draft202012Validator(closed(schema))
        for document in documents:
            for error in validator.iter_errors(document):
                deepest = error
                while deepest.context:
                    deepest = max(deepest.context, key=lambda each: len(each.absolute_path))
                place = "/".join(map(str, deepest.absolute_path))
                print(f"{name}: {place}: {deepest.message[:300]} in {json.dumps(document)[:600]}")


if __name__ == "__main__":
    main()
