"""The profile's model: every key there is, its type, its range and its default, in one place.

From this one definition come validation, the JSON Schema that editors use (`schema.json` beside this file; regenerate
it with `python -m ikeclient.profile.model.schema`) and what `profile show` prints. Values are strict: `"500"` is not a
port. Whatever holds or leads to a secret has no representation.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import core_schema

from ikeclient.crypto.sign.schemes import SCHEME_NAMES
from ikeclient.profile.model import proposals, values
from ikeclient.profile.model.proposals import DEFAULT_ESP, DEFAULT_IKE
from ikeclient.profile.model.values import Fault, IPNetwork

SCHEMA_FILE = Path(__file__).with_name("schema.json")
MAX_PROPOSALS = 32


@dataclass(frozen=True, slots=True, eq=False)  # hashed by identity: annotations in unions must be hashable
class _Parsed:
    """An annotation: the field's value is what `parse` makes of it, and `schema` is its JSON Schema.

    Unlike pydantic's own plain validator it leaves serialisation to the value's type.
    """

    parse: Callable[..., object]
    schema: Mapping[str, Any]
    warns: bool = False  # `parse` takes the list of warnings as well

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        if not self.warns:
            return core_schema.no_info_plain_validator_function(self.parse)
        return core_schema.with_info_plain_validator_function(
            lambda value, info: self.parse(value, (info.context or {}).get("warnings", []))
        )

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return dict(self.schema)


def _list_of(items: Mapping[str, Any], minimum: int = 0) -> dict[str, Any]:
    return {"type": "array", **({"minItems": minimum} if minimum else {}), "items": items}


_STRING: dict[str, Any] = {"type": "string"}
_TEXT: dict[str, Any] = {"type": "string", "minLength": 1}
_NETWORK: dict[str, Any] = {"type": "string", "examples": ["10.0.0.0/8", "2001:db8::/32"]}
_ADDRESS: dict[str, Any] = {"type": "string", "examples": ["10.99.0.53", "2001:db8::53"]}
_DOMAIN: dict[str, Any] = {"type": "string", "examples": ["corp.example"]}
_ONE_OR_MORE: dict[str, Any] = {"anyOf": [_TEXT, _list_of(_TEXT, 1)]}
_KEY_FILE: dict[str, Any] = {
    "anyOf": [
        _TEXT,
        {
            "type": "object",
            "properties": {"file": _TEXT, "insecure": {"type": "boolean"}},
            "required": ["file"],
            "additionalProperties": False,
        },
    ]
}

Text: TypeAlias = Annotated[str, _Parsed(values.text, _TEXT)]
FilePath: TypeAlias = Annotated[str, _Parsed(values.path, _TEXT)]
Command: TypeAlias = Annotated[tuple[str, ...], _Parsed(values.command, _list_of(_STRING, 1))]
Commands: TypeAlias = Annotated[tuple[tuple[str, ...], ...], _Parsed(values.commands, _list_of(_list_of(_STRING, 1)))]


def _duration(minimum: int, maximum: int, *, zero: bool = False) -> _Parsed:
    schema = {"anyOf": [{"type": "integer", "minimum": 0}, _TEXT], "examples": ["4h", "1h30m", 90]}
    return _Parsed(values.duration(minimum, maximum, zero=zero), schema)


def _integer(minimum: int, maximum: int, *, zero: bool = False) -> _Parsed:
    schema = {"type": "integer", "minimum": 0 if zero else minimum, "maximum": maximum}
    return _Parsed(values.integer(minimum, maximum, zero=zero), schema)


def _proposals(kind: Literal["ike", "esp"]) -> _Parsed:
    def parse(value: object) -> tuple[str, ...]:
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise ValueError('must be a list of proposals such as ["aes256gcm16-prfsha384-ecp384"]')
        if not 1 <= len(value) <= MAX_PROPOSALS:
            raise ValueError(f"must list 1 to {MAX_PROPOSALS} proposals, not {len(value)}")
        proposals.check(kind, value)
        return tuple(value)

    return _Parsed(parse, _list_of(_TEXT, 1))


def _request(value: object) -> tuple[str, ...]:
    kinds = ("ipv4", "ipv6", "dns")
    if not isinstance(value, list | tuple):
        raise ValueError(f"must be a list of {', '.join(kinds)}, not {values.shown(value)}")
    for item in value:
        if item not in kinds:
            raise ValueError(f"must be a list of {', '.join(kinds)}; {values.shown(item)} is none of them")
    return tuple(dict.fromkeys(value))


def _signature(value: object) -> tuple[str, ...]:
    known = ", ".join(SCHEME_NAMES)
    if not isinstance(value, list | tuple) or not value:
        raise ValueError(f"must be a list of one or more of {known}, not {values.shown(value)}")
    for item in value:
        if not isinstance(item, str) or item not in SCHEME_NAMES:
            raise ValueError(f"must be a list of {known}; {values.shown(item)} is none of them")
    return tuple(dict.fromkeys(value))


def _key_file(value: object) -> object:
    return value if isinstance(value, dict | KeyFile) else {"file": values.path(value)}


class Section(BaseModel):
    """What all sections share: unknown keys are errors, values are strict, nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class SecretSource(Section):
    """Where a password, a pre-shared key or a passphrase comes from: exactly one of these, never the secret itself."""

    file: FilePath | None = Field(
        default=None, description="A file that only its owner can read; one trailing newline is cut"
    )
    env: Text | None = Field(default=None, description="An environment variable; it is erased after it was read")
    command: Command | None = Field(
        default=None, repr=False, description="A command that prints the secret, run without a shell"
    )
    keyring: Text | None = Field(default=None, description="The service name of an entry in the desktop's keyring")
    prompt: Literal[True] | None = Field(default=None, description="Ask on the terminal")
    credential: Text | None = Field(default=None, description="The name of a systemd credential")
    insecure: bool = Field(
        default=False, description="Accept a `file` that others can read, such as a container's mount"
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> SecretSource:
        kinds = ("file", "env", "command", "keyring", "prompt", "credential")
        given = [kind for kind in kinds if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(f"must have exactly one of {', '.join(kinds)}, not {' and '.join(given) or 'none'}")
        if self.insecure and self.file is None:
            raise ValueError("has 'insecure', which goes with 'file' only")
        return self


class KeyFile(Section):
    """A file with a private key, where its permissions need an exception."""

    file: FilePath
    insecure: bool = Field(default=False, description="Accept a file that others can read, such as a container's mount")


class Gateway(Section):
    """Who to connect to, and how the gateway proves that it is the right one."""

    address: Annotated[tuple[str, ...], _Parsed(values.addresses, _ONE_OR_MORE)] = Field(
        description="Host name, IPv4 or IPv6 address of the gateway, or a list of them tried in order"
    )
    port: Annotated[int, _integer(1, 65535)] = Field(
        default=500, description="First UDP port; 4500 starts there at once"
    )
    identity: Text | None = Field(
        default=None,
        description="What the gateway must prove to be; default: its address. `%any` goes with method psk only",
    )
    ca: Annotated[tuple[str, ...], _Parsed(values.paths, _ONE_OR_MORE)] | None = Field(
        default=None, description="PEM files of trusted authorities; default: the system trust store"
    )
    allow_sha1: bool = Field(
        default=False, description="Sign and accept signatures with SHA-1, for gateways without RFC 7427"
    )


AuthMethod: TypeAlias = Literal[
    "psk", "certificate", "eap-mschapv2", "eap-tls", "eap-ttls", "eap-peap", "eap-gtc", "eap-md5", "eap"
]


class Auth(Section):
    """Who we are and how we prove it."""

    method: AuthMethod = Field(description="How we prove who we are")
    identity: Text | None = Field(
        default=None, description="Our identity (IDi); for EAP also the EAP identity without `user`"
    )
    user: Text | None = Field(default=None, description="The EAP identity, where it differs from `identity`")
    password: SecretSource | None = Field(default=None, description="For the EAP methods; default: ask on the terminal")
    psk: SecretSource | None = Field(default=None, description="For method psk; `0x` starts hexadecimal, `0s` Base64")
    certificate: Annotated[KeyFile, BeforeValidator(_key_file), WithJsonSchema(_KEY_FILE)] | None = Field(
        default=None, description="Our certificate: a PEM chain, or PKCS#12 with the key in it"
    )
    key: Annotated[KeyFile, BeforeValidator(_key_file), WithJsonSchema(_KEY_FILE)] | None = Field(
        default=None, description="The certificate's private key"
    )
    key_passphrase: SecretSource | None = Field(default=None, description="For an encrypted key or PKCS#12 file")
    signature: Annotated[tuple[str, ...], _Parsed(_signature, _list_of({"enum": list(SCHEME_NAMES)}, 1))] | None = (
        Field(
            default=None,
            description="The only schemes that may sign, in order of preference; default: the best the gateway accepts",
        )
    )


class Crypto(Section):
    """Proposals in swanctl's keywords, in order of preference."""

    ike: Annotated[tuple[str, ...], _proposals("ike")] = Field(default=DEFAULT_IKE, description="For the IKE SA")
    esp: Annotated[tuple[str, ...], _proposals("esp")] = Field(default=DEFAULT_ESP, description="For the traffic")


class Network(Section):
    """What is asked of the gateway and what changes on this machine."""

    request: Annotated[
        tuple[Literal["ipv4", "ipv6", "dns"], ...], _Parsed(_request, _list_of({"enum": ["ipv4", "ipv6", "dns"]}))
    ] = Field(default=("ipv4", "ipv6", "dns"), description="What to ask the gateway for")
    routes: Annotated[
        Literal["gateway", "all"] | tuple[IPNetwork, ...],
        _Parsed(values.routes, {"anyOf": [{"enum": ["gateway", "all"]}, _list_of(_NETWORK, 1)]}, warns=True),
    ] = Field(
        default="gateway",
        description="What goes into the tunnel: what the gateway allows, everything, or these networks",
    )
    exclude: Annotated[
        tuple[IPNetwork | Literal["lan"], ...],
        _Parsed(values.exclusions, _list_of({"anyOf": [{"const": "lan"}, _NETWORK]}), warns=True),
    ] = Field(
        default=(), description="What stays outside; `lan` means the private networks this machine is attached to"
    )
    dns: Literal["auto", "split", "all", "none"] = Field(
        default="auto", description="Which names the gateway's DNS servers resolve"
    )
    dns_servers: Annotated[tuple[IPv4Address | IPv6Address, ...], _Parsed(values.name_servers, _list_of(_ADDRESS))] = (
        Field(default=(), description="DNS servers instead of the gateway's")
    )
    dns_domains: Annotated[tuple[str, ...], _Parsed(values.domains, _list_of(_DOMAIN))] = Field(
        default=(), description="Domains that `split` is about and that are searched, instead of the gateway's"
    )
    mtu: Annotated[int, _integer(576, 9000, zero=True)] = Field(
        default=0, description="Inner MTU in bytes; 0 = computed from the path and the cipher"
    )
    interface: Annotated[str, _Parsed(values.interface, _TEXT)] = Field(
        default="ike%d", description="Name of the TUN device; %d is the first free number"
    )

    @model_validator(mode="after")
    def _mtu_carries_ipv6(self) -> Network:
        if 0 < self.mtu < 1280 and "ipv6" in self.request:
            hint = 'raise it, or leave "ipv6" out of network.request'
            raise Fault(f"has mtu = {self.mtu}, but IPv6 needs at least 1280 (RFC 8200)", hint=hint)
        return self


class Session(Section):
    """How the tunnel lives."""

    mobike: bool = Field(default=True, description="Survive changes of address (RFC 4555)")
    liveness: Annotated[int, _duration(5, 3600, zero=True)] = Field(
        default=30, description="Silence before the gateway is checked; 0 = never"
    )
    rekey_ike: Annotated[int, _duration(10, 7 * 86400)] = Field(default=4 * 3600, description="Lifetime of the IKE SA")
    rekey_child: Annotated[int, _duration(10, 7 * 86400)] = Field(
        default=3600, description="Lifetime of the traffic's keys"
    )
    retry: Annotated[
        Literal["forever"] | int,
        _Parsed(values.retry, {"anyOf": [{"const": "forever"}, {"type": "integer", "minimum": 0, "maximum": 1000}]}),
    ] = Field(default="forever", description="How many more attempts follow a failed one")
    refusals: Annotated[int, _integer(1, 1000)] = Field(
        default=3, description="Refusals of the credentials in a row that end a tunnel which was up"
    )
    encapsulation: Literal["auto", "always"] = Field(default="auto", description="UDP encapsulation even without a NAT")
    offload: Literal["auto", "off"] = Field(
        default="auto", description="Batched system calls where the kernel has them"
    )
    kill_switch: bool = Field(default=False, description="Let nothing out while the tunnel is not up")
    up: Commands = Field(default=(), description="Commands to run when the tunnel is up, without a shell")
    down: Commands = Field(default=(), description="Commands to run when the tunnel is down, without a shell")


class Profile(Section):
    """One VPN connection."""

    version: Annotated[int, _Parsed(values.version, {"const": 1})] = Field(description="Version of this format")
    gateway: Gateway
    auth: Auth
    crypto: Crypto = Crypto()
    network: Network = Network()
    session: Session = Session()


def _for_toml(schema: Any) -> Any:
    """A JSON Schema without null, which TOML does not have, and without the titles pydantic makes up."""
    match schema:
        case {"anyOf": [*options]} if {"type": "null"} in options:
            rest = [option for option in options if option != {"type": "null"}]
            outer = {key: value for key, value in schema.items() if key not in ("anyOf", "default")}
            return _for_toml({**(rest[0] if len(rest) == 1 else {"anyOf": rest}), **outer})
        case dict():
            return {k: _for_toml(v) for k, v in schema.items() if k != "title" or not isinstance(v, str)}
        case list():
            return [_for_toml(item) for item in schema]
    return schema


def json_schema() -> str:
    """The JSON Schema of a profile as the text of `schema.json`."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "ikeclient profile"}
    return json.dumps({**head, **_for_toml(Profile.model_json_schema())}, indent=2) + "\n"


if __name__ == "__main__":
    SCHEMA_FILE.write_text(json_schema())
