"""The laws of the tree, enforced: who may import whom, where the outside world is touched.

Every rule carries its reason, because whoever breaks one should read why before arguing with it. The imports are read
with `ast`, so nothing is imported and an import inside a function counts as much as one at the top of a file.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "ikeclient"

# What each part may import from the project besides itself, and why no more.
LAYERS: dict[str, tuple[frozenset[str], str]] = {
    "": (frozenset({"library", "profile"}), "the top package holds the version and is imported by everything"),
    "errors": (frozenset(), "every layer raises errors, so they stand below all layers"),
    "lazy_dataclass": (frozenset(), "how every layer declares its values, so it stands below all layers"),
    "nofollow": (frozenset(), "how files are opened, whatever is in them"),
    "ipc": (frozenset({"errors"}), "two processes of ours: how one is forked and talked with, not what about"),
    "wire": (frozenset({"errors"}), "bytes to values and back, usable without any other part"),
    "crypto": (
        frozenset({"errors", "wire.registry", "wire.text"}),
        "pure functions; the registry gives numbers their names, and names in certificates are shown",
    ),
    "eap": (
        frozenset({"wire.eap", "wire.registry", "wire.text", "crypto", "errors"}),
        "EAP methods are a peer of IKE and know nothing about the IKE SA that carries them",
    ),
    "ike": (frozenset({"wire", "crypto", "eap", "errors"}), "the IKE SA never meets ESP, profiles or the machine"),
    "signer": (
        frozenset({"crypto", "ipc", "wire.registry", "wire.text", "errors"}),
        "it signs with a key, in a process of its own that knows nothing of tunnels",
    ),
    "esp": (frozenset({"crypto", "errors"}), "ESP never meets IKE; the tunnel carries keys from one to the other"),
    "stack": (
        frozenset({"esp", "errors"}),
        "packets of TCP, UDP and ICMP without a machine; checksums and headers it shares with the inner packets of ESP",
    ),
    "profile": (
        frozenset(
            {"wire", "crypto", "eap.credentials", "eap.traits", "ike.config", "signer", "ipc", "nofollow", "errors"}
        ),
        "a profile becomes the protocol's configuration and nothing that acts",
    ),
    "net": (
        frozenset({"ipc", "nofollow", "errors"}),
        "the machine is adapters with plain values; it does not know what a VPN is",
    ),
    "control": (
        frozenset({"nofollow", "errors"}),
        "a tunnel's socket carries dictionaries and is usable without the tunnel",
    ),
    "proxy": (
        frozenset({"errors", "dataplane.async_host", "stack.interfaces"}),
        "sockets in, sockets or a host inside the tunnel out; where the sockets are is not its business",
    ),
    "dataplane": (
        frozenset({"esp", "net", "stack", "control.status", "errors"}),
        "packets between a device and a transport; the tunnel turns what IKE negotiated into a value of ESP's, and "
        "what is counted is a value of the status",
    ),
    "tunnel": (
        frozenset(
            {"wire", "crypto", "eap", "ike", "esp", "dataplane", "profile", "net", "control", "nofollow", "errors"}
        ),
        "the one place where protocol, data plane and machine meet",
    ),
    "process": (
        frozenset(
            {
                *("tunnel", "dataplane", "stack", "control", "net", "profile", "signer", "ipc"),
                *("wire.text", "nofollow", "errors"),
            }
        ),
        "which process does what; what it needs of the display comes in as an argument, so other front ends can use it",
    ),
    "cli": (
        frozenset({"control", "profile", "wire.text", "nofollow", "errors"}),
        "commands are clients of a tunnel's socket; what carries a tunnel is imported inside the command that needs it",
    ),
    "when": (
        frozenset({"net", "profile.model.schema", "control", "errors"}),
        "which network has a tunnel up; the tunnel itself is another process, which knows nothing of it",
    ),
    "desktop": (
        frozenset({"control", "net.watch.files", "wire.text", "errors"}),
        "what a person is shown of tunnels; it is a client of their sockets, in a process of its own",
    ),
    "library": (
        frozenset({"process", "proxy", "stack", "tunnel", "profile", "dataplane", "control", "errors"}),
        "what a program of others sees of a tunnel in its own event loop",
    ),
    "networkmanager": (
        frozenset(
            {
                *("process", "tunnel", "dataplane", "control", "net", "profile", "signer", "ipc"),
                *("wire.text", "nofollow", "errors"),
            }
        ),
        "another front end: a tunnel whose machine is NetworkManager's",
    ),
    "client": (frozenset({"control", "errors"}), "what a program of others sees of tunnels that run"),
    "__main__": (frozenset({"cli"}), "only hands over to the command line"),
}

# The modules of IKEv2 that run its exchanges. Everything else in `ike` is below them and must not know them: messages,
# rules and the records of SAs are what exchanges are written with.
EXCHANGES = "ikeclient.ike.v2.exchanges"
ABOVE_EXCHANGES = frozenset(
    f"ikeclient.ike.v2.{name}"
    for name in ("answers", "handshake", "ike_sa", "ike_sas", "initiator", "requester", "responder", "succession")
)

# What a command may import, but only inside a function: the start-up time of every other command depends on it.
LAZY: dict[str, tuple[frozenset[str], str]] = {
    "cli": (
        frozenset({"process", "tunnel", "dataplane", "net", "esp", "proxy", "when", "desktop"}),
        "what carries a tunnel needs them, `status` must not pay for them",
    ),
}

# The only homes of packages that are not ours.
HOMES: dict[str, tuple[tuple[str, ...], str]] = {
    "cryptography": (("ikeclient.crypto",), "one place to audit, and one place to swap"),
    "OpenSSL": (("ikeclient.crypto.tls",), "TLS inside of EAP, and nothing else"),
    "pkcs11": (("ikeclient.signer.token",), "foreign modules are loaded into the process that signs, and nowhere else"),
    "smartcard": (("ikeclient.signer.reader",), "readers are asked in the process that signs, and nowhere else"),
    "pyroute2": (("ikeclient.net",), "the machine is changed through journalled adapters only"),
    "pytun": (("ikeclient.net.device.tun",), "one device file, one owner"),
    "netifaces": (("ikeclient.net",), "what interfaces exist is a question to the machine"),
    "pydantic": (("ikeclient.profile",), "input from people is validated once, at the edge"),
    "dbus_fast": (
        ("ikeclient.networkmanager.service", "ikeclient.desktop.notifications"),
        "one program answers calls on the system bus, one makes some on the session's, and no tunnel does either",
    ),
    "typer": (("ikeclient.cli",), "the command line is the only thing that talks to people"),
    "rich": (("ikeclient.cli",), "the command line is the only thing that talks to people"),
}

PURE = ("wire", "crypto", "ike", "eap", "esp", "stack")

# In the protocol packages bytes, time and entropy are arguments, so that a recorded session replays byte for byte.
BANNED_MODULES: dict[str, str] = {
    "socket": "datagrams are arguments and results",
    "select": "waiting is the driver's work",
    "selectors": "waiting is the driver's work",
    "asyncio": "the protocol is driven, it does not drive",
    "threading": "the protocol is driven, it does not drive",
    "subprocess": "nothing a gateway sends may reach a program",
    "time": "the time is an argument",
    "random": "entropy is an argument",
    "secrets": "entropy is an argument",
    "logging": "what happened is an event or a counter, never a log line",
    "pyroute2": "the machine is not the protocol's business",
}
BANNED_ATTRIBUTES: dict[tuple[str, str], str] = {
    ("os", "urandom"): "entropy is an argument",
    ("os", "getrandom"): "entropy is an argument",
    ("datetime", "now"): "the time is an argument",
    ("datetime", "utcnow"): "the time is an argument",
    ("date", "today"): "the time is an argument",
    ("uuid", "uuid4"): "entropy is an argument",
}
BANNED_CALLS: dict[str, str] = {
    "open": "files are read by the profile and by the machine's adapters",
    "print": "only the command line talks to people",
    "input": "only the command line talks to people",
    "eval": "nothing a gateway sends may become code",
    "exec": "nothing a gateway sends may become code",
}
BANNED_METHODS: dict[str, str] = {
    "generate": "entropy is an argument; the libraries' own key generation takes it from the machine",
    "generate_key": "entropy is an argument; the libraries' own key generation takes it from the machine",
    "generate_private_key": "entropy is an argument; the libraries' own key generation takes it from the machine",
    "generate_parameters": "entropy is an argument; the libraries' own key generation takes it from the machine",
    "read_bytes": "files are read by the profile and by the machine's adapters",
    "read_text": "files are read by the profile and by the machine's adapters",
}

# A class with more attributes, or a constructor with more arguments, does more than one thing.
MOST_ATTRIBUTES = 14
MOST_ARGUMENTS = 8

# Records that mirror a document field by field; as many fields as the document has.
DOCUMENTS: dict[str, str] = {
    "ikeclient.control.status.TunnelStatus": "one tunnel in `ikeclient status --json`, one field a key",
}

# What is still above a limit, with its count, which must not grow. Whoever brings one below its limit removes its line.
TOO_MANY_ATTRIBUTES: dict[str, int] = {}
TOO_MANY_ARGUMENTS: dict[str, int] = {}

# Fields of another file's class that a module still writes. A class changes itself; others call its methods.
FOREIGN_WRITES: dict[str, frozenset[str]] = {}

# `ikeclient --help` answers before any of these could even be loaded.
SLOW = ("cryptography", "pyroute2", "pydantic", "asyncio", "rich", "netifaces", "pytun")


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """One imported name of a module: its full dotted target, the line, and whether it runs when the module loads.

    One that is `for_types` never runs.
    """

    target: str
    line: int
    at_load: bool
    for_types: bool = False


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def is_type_checking(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def imports(tree: ast.Module, module: str, *, is_package: bool) -> Iterator[Import]:
    """Every import of a module. `from a import b` yields `a.b`: `b` may be a module, and the tables match prefixes."""

    def walk(node: ast.AST, at_load: bool, for_types: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            if isinstance(child, ast.Import):
                for name in child.names:
                    yield Import(target=name.name, line=child.lineno, at_load=at_load, for_types=for_types)
            elif isinstance(child, ast.ImportFrom):
                base = child.module or ""
                if child.level:
                    parts = module.split(".")
                    parts = parts[: len(parts) - child.level + (1 if is_package else 0)]
                    base = ".".join([*parts, base] if base else parts)
                for name in child.names:
                    target = f"{base}.{name.name}"
                    yield Import(target=target, line=child.lineno, at_load=at_load, for_types=for_types)
            else:
                types = isinstance(child, ast.stmt) and is_type_checking(child)
                yield from walk(child, at_load and not inside and not types, for_types or types)

    return walk(tree, True, False)


def imports_of(path: Path) -> list[Import]:
    return list(imports(parse(path), module_name(path), is_package=path.name == "__init__.py"))


def within(target: str, prefix: str) -> bool:
    return target == prefix or target.startswith(prefix + ".")


def layer_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def layer_violations(module: str, found: list[Import]) -> list[str]:
    layer = layer_of(module)
    allowed, reason = LAYERS[layer]
    lazily, _ = LAZY.get(layer, (frozenset(), ""))
    violations = []
    for item in found:
        if not within(item.target, "ikeclient"):
            continue
        target = item.target.removeprefix("ikeclient").removeprefix(".")
        own_or_top = (layer and within(target, layer)) or target in {"", "__version__", "lazy_dataclass.dataclass"}
        if own_or_top or any(within(target, prefix) for prefix in allowed):
            continue
        if not item.at_load and any(within(target, prefix) for prefix in lazily):
            continue
        violations.append(f"{module}:{item.line} imports ikeclient.{target}, but {reason}")
    return violations


def exchange_violations(module: str, found: list[Import]) -> list[str]:
    if not within(module, "ikeclient.ike") or within(module, EXCHANGES) or module in ABOVE_EXCHANGES:
        return []
    return [f"{module}:{item.line} imports {item.target}" for item in found if within(item.target, EXCHANGES)]


def home_violations(module: str, found: list[Import]) -> list[str]:
    violations = []
    for item in found:
        package = item.target.split(".")[0]
        if package in HOMES and not any(within(module, home) for home in HOMES[package][0]):
            homes, reason = HOMES[package]
            violations.append(f"{module}:{item.line} imports {package}, whose home is {', '.join(homes)}: {reason}")
    return violations


def purity_violations(module: str, tree: ast.Module, found: list[Import]) -> list[str]:
    violations = [
        f"{module}:{item.line} imports {item.target}: {reason}"
        for item in found
        for banned, reason in BANNED_MODULES.items()
        if within(item.target, banned)
    ]
    violations += [
        f"{module}:{item.line} imports {item.target}: {reason}"
        for item in found
        for (owner, name), reason in BANNED_ATTRIBUTES.items()
        if item.target == f"{owner}.{name}"
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else node.value.attr
            if reason := BANNED_ATTRIBUTES.get((owner, node.attr)):
                violations.append(f"{module}:{node.lineno} uses {owner}.{node.attr}: {reason}")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in BANNED_CALLS:
            violations.append(f"{module}:{node.lineno} calls {node.func.id}: {BANNED_CALLS[node.func.id]}")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in BANNED_METHODS:
            violations.append(f"{module}:{node.lineno} calls {node.func.attr}: {BANNED_METHODS[node.func.attr]}")
    return violations


def circles(graph: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Find the strongly connected components of more than one module (Tarjan), in which each imports all others."""
    found: list[list[str]] = []
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    path: list[str] = []

    def visit(module: str) -> None:
        number[module] = lowest[module] = len(number)
        path.append(module)
        for other in graph.get(module, ()):
            if other not in number:
                visit(other)
            if other in path:
                lowest[module] = min(lowest[module], lowest[other])
        if lowest[module] == number[module]:
            start = path.index(module)
            component = path[start:]
            del path[start:]
            if len(component) > 1:
                found.append(sorted(component))

    for module in graph:
        if module not in number:
            visit(module)
    return found


def import_graph(modules: Mapping[str, Iterable[Import]]) -> dict[str, set[str]]:
    """The modules of the project that each module imports when it runs."""
    graph: dict[str, set[str]] = {}
    for module, found in modules.items():
        targets = set()
        for item in found:
            target = item.target if item.target in modules else item.target.rpartition(".")[0]
            if not item.for_types and target in modules and target not in (module, "ikeclient"):
                targets.add(target)
        graph[module] = targets
    return graph


def field_names(cls: ast.ClassDef) -> set[str]:
    """The attributes of an instance: declared in the class, or assigned to its first argument by a method."""
    found = {
        statement.target.id
        for statement in cls.body
        if isinstance(statement, ast.AnnAssign)
        and isinstance(statement.target, ast.Name)
        and "ClassVar" not in ast.unparse(statement.annotation)
    }
    for method in cls.body:
        if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef) and method.args.args:
            itself = method.args.args[0].arg
            found |= {
                node.attr
                for node in ast.walk(method)
                if isinstance(node, ast.Attribute)
                and isinstance(node.ctx, ast.Store)
                and isinstance(node.value, ast.Name)
                and node.value.id == itself
            }
    return found


def argument_count(cls: ast.ClassDef) -> int:
    """The arguments of a constructor that is written out; a record's fields are counted as attributes."""
    for method in cls.body:
        if isinstance(method, ast.FunctionDef) and method.name == "__init__":
            arguments = method.args
            return len(arguments.posonlyargs) + len(arguments.args) + len(arguments.kwonlyargs) - 1
    return 0


def classes(tree: ast.Module) -> Iterator[ast.ClassDef]:
    """The classes of a module but enumerations and protocols, whose members are no state."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            bases = [ast.unparse(base).rpartition(".")[2] for base in node.bases]
            if not any(base in ("Protocol", "TypedDict") or base.endswith(("Enum", "Flag")) for base in bases):
                yield node


def foreign_writes(trees: Mapping[str, ast.Module]) -> dict[str, set[str]]:
    """The fields that each module writes though only classes of other modules have a field of that name.

    Adding to `counters` is left out: they are kept to be added to where the thing to count is seen.
    """
    homes: dict[str, set[str]] = {}
    for module, tree in trees.items():
        for cls in classes(tree):
            for name in field_names(cls):
                homes.setdefault(name, set()).add(module)
    found: dict[str, set[str]] = {}
    for module, tree in trees.items():
        counted = {id(node.target) for node in ast.walk(tree) if isinstance(node, ast.AugAssign)}
        for node in ast.walk(tree):
            if not isinstance(node, ast.Attribute) or not isinstance(node.ctx, ast.Store | ast.Del):
                continue
            owner = ast.unparse(node.value)
            counts = id(node) in counted and owner.rpartition(".")[2].lstrip("_") == "counters"
            if owner not in ("self", "cls") and not counts and module not in homes.get(node.attr, {module}):
                found.setdefault(module, set()).add(node.attr)
    return found


def measure_violations(
    what: str, table: str, limit: int, found: Mapping[str, int], exceptions: Mapping[str, int]
) -> list[str]:
    """What is above the limit and not in `table`, what has grown, and the lines of `table` that can go."""
    violations = [
        f"{name} has {count} {what}, allowed are {exceptions.get(name, limit)}: split it"
        for name, count in sorted(found.items())
        if count > exceptions.get(name, limit)
    ]
    violations += [
        f"{name} has at most {limit} {what} now: remove its line from {table} in this file"
        for name in sorted(exceptions)
        if found.get(name, 0) <= limit
    ]
    return violations


def write_violations(found: Mapping[str, set[str]], exceptions: Mapping[str, frozenset[str]]) -> list[str]:
    violations = []
    for module in sorted(found.keys() | exceptions.keys()):
        written, excepted = found.get(module, set()), exceptions.get(module, frozenset())
        if new := sorted(written - excepted):
            violations.append(f"{module} writes {', '.join(new)} of another file's class: give that class a method")
        if gone := sorted(excepted - written):
            violations.append(f"{module} writes {', '.join(gone)} no more: remove it from FOREIGN_WRITES in this file")
    return violations


EVERY_MODULE = pytest.mark.parametrize("path", sources(), ids=module_name)
EVERY_PURE_MODULE = pytest.mark.parametrize(
    "path", [path for path in sources() if layer_of(module_name(path)) in PURE], ids=module_name
)


@EVERY_MODULE
def test_a_module_belongs_to_a_layer_and_imports_only_what_the_layer_may(path: Path) -> None:
    module = module_name(path)
    assert layer_of(module) in LAYERS, f"{module} belongs to no layer; add it to the table with a reason"
    assert not layer_violations(module, imports_of(path))


@EVERY_MODULE
def test_packages_that_are_not_ours_are_imported_only_at_their_home(path: Path) -> None:
    assert not home_violations(module_name(path), imports_of(path))


def test_no_modules_import_each_other_in_a_circle() -> None:
    """A circle is one module in several files. An import inside a function hides it from Python, not from readers."""
    assert not circles(import_graph({module_name(path): imports_of(path) for path in sources()}))


@EVERY_PURE_MODULE
def test_exchanges_are_imported_only_from_above(path: Path) -> None:
    assert not exchange_violations(module_name(path), imports_of(path))


@EVERY_PURE_MODULE
def test_the_protocol_does_no_input_or_output(path: Path) -> None:
    assert not purity_violations(module_name(path), parse(path), imports_of(path))


@EVERY_MODULE
def test_every_module_says_why_it_exists(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert not source.strip() or ast.get_docstring(ast.parse(source))


TREES = {module_name(path): parse(path) for path in sources()}
CLASSES = {f"{module}.{cls.name}": cls for module, tree in TREES.items() for cls in classes(tree)}


def test_a_class_has_few_attributes() -> None:
    found = {name: len(field_names(cls)) for name, cls in CLASSES.items() if name not in DOCUMENTS}
    assert not measure_violations("attributes", "TOO_MANY_ATTRIBUTES", MOST_ATTRIBUTES, found, TOO_MANY_ATTRIBUTES)
    assert DOCUMENTS.keys() <= CLASSES.keys()


def test_a_constructor_has_few_arguments() -> None:
    found = {name: argument_count(cls) for name, cls in CLASSES.items()}
    assert not measure_violations("arguments", "TOO_MANY_ARGUMENTS", MOST_ARGUMENTS, found, TOO_MANY_ARGUMENTS)


def test_a_field_is_written_only_in_the_file_of_its_class() -> None:
    assert not write_violations(foreign_writes(TREES), FOREIGN_WRITES)


def test_help_is_answered_without_loading_anything_slow() -> None:
    program = (
        "import sys\n"
        "from ikeclient.cli.app import main\n"
        "sys.argv = ['ikeclient', '--help']\n"
        "try:\n"
        "    code = main()\n"
        "except SystemExit as exit:\n"
        "    code = exit.code\n"
        "assert not code, code\n"
        f"slow = {SLOW!r}\n"
        "loaded = {name for name in sys.modules if name.split('.')[0] in slow}\n"
        "loaded |= {name for name in sys.modules if name.startswith(('ikeclient.profile', 'ikeclient.net'))}\n"
        "loaded |= {name for name in sys.modules if name.startswith(('ikeclient.tunnel', 'ikeclient.ike'))}\n"
        "loaded |= {'ikeclient.control.status'} & sys.modules.keys()\n"
        "loaded -= {'ikeclient.profile', 'ikeclient.profile.formats'}\n"  # names that the help has to tell
        "sys.exit(f'loaded: {sorted(loaded)}' if loaded else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "connect" in done.stdout


def test_the_tables_only_name_layers_that_may_exist() -> None:
    named = {name.split(".")[0] for allowed, _ in (*LAYERS.values(), *LAZY.values()) for name in allowed}
    assert named <= LAYERS.keys()
    assert set(PURE) <= LAYERS.keys()


@pytest.mark.parametrize(
    ("count", "exception", "words"),
    [
        (14, None, None),
        (15, None, "split it"),
        (15, 15, None),
        (16, 15, "split it"),
        (14, 15, "remove its line from TABLE"),
        (None, 15, "remove its line from TABLE"),
    ],
)
def test_the_measures_can_fail(count: int | None, exception: int | None, words: str | None) -> None:
    source = "class C:\n    def __init__(self, a):\n" + "".join(f"        self.a{n} = a\n" for n in range(count or 0))
    found = {cls.name: len(field_names(cls)) for cls in classes(ast.parse(source if count else ""))}
    said = measure_violations("attributes", "TABLE", 14, found, {"C": exception} if exception else {})
    assert (len(said), bool(words and words in said[0])) == ((1, True) if words else (0, False))


@pytest.mark.parametrize(
    ("source", "written"),
    [
        ("def f(c):\n    c.field = 1", {"field"}),
        ("def f(c):\n    c.field += 1", {"field"}),
        ("def f(c):\n    c.other, c.field = 1, 2", {"field", "other"}),
        ("def f(c):\n    del c.field", {"field"}),
        ("class D:\n    def f(self):\n        self._c.field = 1", {"field"}),
        ("class D:\n    def f(self):\n        self.field = 1", set()),
        ("class D:\n    field: int\ndef f(d):\n    d.field = 1", set()),
        ("def f(counters):\n    counters.field += 1", set()),
        ("def f(counters):\n    counters.field = 1", {"field"}),
        ("def f(c):\n    c.unknown = c.field", set()),
    ],
)
def test_the_rule_about_foreign_writes_can_fail(source: str, written: set[str]) -> None:
    owner = "class C:\n    field: int\n    def __init__(self):\n        self.other = 1"
    found = foreign_writes({"a": ast.parse(owner), "b": ast.parse(source)})
    assert found.get("b", set()) == written
    assert bool(write_violations(found, {})) is bool(written)
    assert bool(write_violations(found, {"b": frozenset({"field", "other"})})) is (written != {"field", "other"})


@pytest.mark.parametrize(
    ("module", "source", "broken"),
    [
        ("ikeclient.wire.header", "from ikeclient.errors import ParseError", False),
        ("ikeclient.wire.header", "from ikeclient.wire.cursor import Reader", False),
        ("ikeclient.wire.header", "import ikeclient.crypto.algorithms.prf", True),
        ("ikeclient.crypto.algorithms.prf", "from ikeclient.wire import registry", False),
        ("ikeclient.crypto.algorithms.prf", "from ikeclient.wire import header", True),
        ("ikeclient.crypto.algorithms.prf", "from ...wire import header", True),
        ("ikeclient.ike.v2.ike_sa", "from ikeclient import esp", True),
        ("ikeclient.esp.sa.pair", "def f():\n    from ikeclient.ike import sa", True),
        ("ikeclient.cli.connect", "from ikeclient.process.run import run", True),
        ("ikeclient.cli.connect", "def f():\n    from ikeclient.process.run import run", False),
        ("ikeclient.cli.connect", "if TYPE_CHECKING:\n    from ikeclient.process.run import run", False),
        ("ikeclient.cli.connect", "def f():\n    from ikeclient.ike.v2.ike_sa import run", True),
        ("ikeclient.tunnel.driver", "from ikeclient.cli import app", True),
        ("ikeclient.process.run", "from ikeclient.cli.view.render import event_line", True),
        ("ikeclient.process.run", "def f():\n    from ikeclient.cli.view import terminal", True),
        ("ikeclient.cli.version", "from ikeclient import __version__", False),
    ],
)
def test_the_layer_rule_can_fail(module: str, source: str, broken: bool) -> None:
    found = list(imports(ast.parse(source), module, is_package=False))
    assert bool(layer_violations(module, found)) is broken


@pytest.mark.parametrize(
    ("last", "found"),
    [
        ("import ikeclient.a", [["ikeclient.a", "ikeclient.b", "ikeclient.c"]]),
        ("def f():\n    from ikeclient.a import name", [["ikeclient.a", "ikeclient.b", "ikeclient.c"]]),
        ("from ikeclient import b", [["ikeclient.b", "ikeclient.c"]]),
        ("if TYPE_CHECKING:\n    from ikeclient.a import name", []),
        ("from ikeclient import d", []),
    ],
)
def test_the_rule_about_circles_can_fail(last: str, found: list[list[str]]) -> None:
    sources = {"a": "from ikeclient import b", "b": "from ikeclient.c import name", "c": last, "d": ""}
    modules = {
        f"ikeclient.{name}": list(imports(ast.parse(source), f"ikeclient.{name}", is_package=False))
        for name, source in sources.items()
    }
    assert circles(import_graph(modules)) == found


@pytest.mark.parametrize(
    ("module", "broken"),
    [
        ("ikeclient.ike.v2.child.table", True),
        ("ikeclient.ike.v2.message.channel", True),
        ("ikeclient.ike.v2.requester", False),
        ("ikeclient.ike.v2.exchanges.auth", False),
        ("ikeclient.tunnel.probe", False),
    ],
)
def test_the_exchange_rule_can_fail(module: str, broken: bool) -> None:
    source = ast.parse("from ikeclient.ike.v2.exchanges.init import new_spi")
    assert bool(exchange_violations(module, list(imports(source, module, is_package=False)))) is broken


@pytest.mark.parametrize(
    ("module", "source", "broken"),
    [
        ("ikeclient.crypto.algorithms.prf", "from cryptography.hazmat.primitives import hmac", False),
        ("ikeclient.ike.v2.ike_sa", "def f():\n    import cryptography", True),
        ("ikeclient.net.device.tun", "import pytun", False),
        ("ikeclient.net.tunnels", "import pytun", True),
        ("ikeclient.net.routes", "from pytun import TunTapDevice", True),
    ],
)
def test_the_home_rule_can_fail(module: str, source: str, broken: bool) -> None:
    assert bool(home_violations(module, list(imports(ast.parse(source), module, is_package=False)))) is broken


@pytest.mark.parametrize(
    "source",
    [
        "import socket",
        "def f():\n    import time",
        "from os import urandom",
        "import os\nx = os.urandom(8)",
        "import datetime\nx = datetime.datetime.now()",
        "x = open('file')",
        "x = X25519PrivateKey.generate()",
        "x = Path('file').read_bytes()",
        "from secrets import token_bytes",
    ],
)
def test_the_purity_rule_can_fail(source: str) -> None:
    tree = ast.parse(source)
    module = "ikeclient.ike.v2.ike_sa"
    assert purity_violations(module, tree, list(imports(tree, module, is_package=False)))
