"""The profile's model: every key there is, its type, its range and its default, in one place.

From this one definition come validation, the JSON Schema that editors use (`schema.json` beside this file; regenerate
it with `python -m ikeclient.profile.model.schema`) and what `profile show` prints. Values are strict: `"500"` is not a
port. Whatever holds or leads to a secret has no representation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeAlias, get_args

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
from ikeclient.lazy_dataclass import dataclass
from ikeclient.profile.model import proposals, values
from ikeclient.profile.model.methods import SUPPORTED, InnerName, MethodName
from ikeclient.profile.model.proposals import DEFAULT_ESP, DEFAULT_IKE
from ikeclient.profile.model.values import Fault, IPNetwork

SCHEMA_FILE = Path(__file__).with_name("schema.json")
MAX_PROPOSALS = 32
MAX_MATCHES = 64
CERTIFICATE_FORMS = ("pkcs7", "hash-and-url")


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
_SECRET: dict[str, Any] = {"secret": "source"}  # stands for the definition, which is not known yet
_URI: dict[str, Any] = {
    "type": "string",
    "pattern": "^[pP][kK][cC][sS]11:",
    "examples": ["pkcs11:token=work;object=vpn"],
}
_FINGERPRINT: dict[str, Any] = {"type": "string", "pattern": "^SHA256:[A-Za-z0-9+/]{43}$"}
_KEY_SOURCE: dict[str, Any] = {
    "anyOf": [
        *_KEY_FILE["anyOf"],
        {
            "type": "object",
            "properties": {"pkcs11": _URI, "module": _TEXT, "pin": _SECRET},
            "required": ["pkcs11"],
            "additionalProperties": False,
        },
        {
            "type": "object",
            "properties": {"agent": _FINGERPRINT},
            "required": ["agent"],
            "additionalProperties": False,
        },
    ]
}

Wanted: TypeAlias = Literal["ipv4", "ipv6", "dns", "p-cscf"]
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
            raise ValueError('must be a list of proposals such as `["aes256gcm16-prfsha384-ecp384"]`')
        if not 1 <= len(value) <= MAX_PROPOSALS:
            raise ValueError(f"must list 1 to {MAX_PROPOSALS} proposals, not {len(value)}")
        proposals.check(kind, value)
        return tuple(value)

    return _Parsed(parse, _list_of(_TEXT, 1))


def _request(value: object) -> tuple[str, ...]:
    kinds = get_args(Wanted)
    if not isinstance(value, list | tuple):
        raise ValueError(f"must be a list of {', '.join(kinds)}, not {values.shown(value)}")
    for item in value:
        if item not in kinds:
            raise ValueError(f"must be a list of {', '.join(kinds)}; {values.shown(item)} is none of them")
    return tuple(dict.fromkeys(value))


def _certificate_forms(value: object) -> tuple[str, ...]:
    known = ", ".join(CERTIFICATE_FORMS)
    if not isinstance(value, list | tuple):
        raise ValueError(f"must be a list of {known}, not {values.shown(value)}")
    for item in value:
        if item not in CERTIFICATE_FORMS:
            raise ValueError(f"must be a list of {known}; {values.shown(item)} is none of them")
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
    return value if isinstance(value, dict | KeyFile | KeySource) else {"file": values.path(value)}


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


class KeySource(Section):
    """Where our private key is: in a file, on a PKCS#11 token, or with ssh-agent."""

    file: FilePath | None = Field(default=None, description="A file with the private key")
    insecure: bool = Field(default=False, description="Accept a file that others can read, such as a container's mount")
    pkcs11: Annotated[str, _Parsed(values.pkcs11_uri, _URI)] | None = Field(
        default=None, description="The URI (RFC 7512) of a key on a token, such as `pkcs11:token=work;object=vpn`"
    )
    module: FilePath | None = Field(
        default=None,
        description="The token's PKCS#11 module: a path, or a name in the system's usual directories. Default: "
        "`p11-kit-proxy.so`, all modules that the system knows",
    )
    pin: SecretSource | None = Field(
        default=None,
        description="The token's PIN: a secret source. Default: ask on the terminal, if the token wants one and has "
        "no keys of its own",
    )
    agent: Annotated[str, _Parsed(values.agent_fingerprint, _FINGERPRINT)] | None = Field(
        default=None,
        description="The fingerprint of a key of the ssh-agent at `$SSH_AUTH_SOCK`, as `ssh-add -l` shows it",
    )

    @model_validator(mode="after")
    def _one_place(self) -> KeySource:
        kinds = ("file", "pkcs11", "agent")
        given = [kind for kind in kinds if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(f"must have exactly one of {', '.join(kinds)}, not {' and '.join(given) or 'none'}")
        for name, goes_with in (("insecure", "file"), ("module", "pkcs11"), ("pin", "pkcs11")):
            if getattr(self, name) and goes_with not in given:
                raise ValueError(f"has '{name}', which goes with '{goes_with}' only")
        return self

    @property
    def key_file(self) -> KeyFile | None:
        """The file, if it is in one."""
        return None if self.file is None else KeyFile(file=self.file, insecure=self.insecure)


class SimSource(Section):
    """Who answers for a SIM or USIM: exactly one of a command, a reader and two keys."""

    command: Command | None = Field(
        default=None, repr=False, description="A command that answers one challenge, run without a shell"
    )
    reader: Text | None = Field(
        default=None, description="The PC/SC reader that the card is in, by its name or a part of it"
    )
    pin: SecretSource | None = Field(
        default=None, description="The card's PIN, with a reader and if it wants one: a secret source"
    )
    k: SecretSource | None = Field(default=None, description="For tests: K, 32 hexadecimal digits, as a secret source")
    opc: SecretSource | None = Field(default=None, description="For tests: OPc, likewise; it goes with `k`")

    @model_validator(mode="after")
    def _exactly_one(self) -> SimSource:
        given = [kind for kind in ("command", "reader", "k") if getattr(self, kind) is not None]
        if len(given) != 1 or (self.k is None) != (self.opc is None):
            raise ValueError("must have exactly one of command, reader, and k with opc")
        if self.pin is not None and self.reader is None:
            raise ValueError("has a pin, which goes with a reader only")
        return self


class Gateway(Section):
    """Who to connect to, and how the gateway proves that it is the right one."""

    address: Annotated[tuple[str, ...], _Parsed(values.addresses, _ONE_OR_MORE)] = Field(
        description="Host name, IPv4 or IPv6 address, or a list of up to 8 of them. They are tried in order: "
        "the next one after anything but a refusal of the credentials by a gateway that has "
        "proven its identity"
    )
    port: Annotated[int, _integer(1, 65535)] = Field(
        default=500, description="First UDP port. If 500 is silent, 4500 is tried as well; 4500 starts there at once"
    )
    identity: Text | None = Field(
        default=None,
        description="What the gateway must prove to be: a name in its certificate, or its ID with a PSK. "
        "Default: the address. `%any` accepts everybody who knows the key, with method `psk` only",
    )
    ca: Annotated[tuple[str, ...], _Parsed(values.paths, _ONE_OR_MORE)] | None = Field(
        default=None,
        description="PEM file or list of files with the authorities that may vouch for the gateway. One that "
        "lists extended key usages must list serverAuth or ipsecIKE, wherever in the chain it "
        "stands. Default: the system trust store",
    )
    auth: Literal["psk", "certificate", "eap"] | None = Field(
        default=None,
        description="How the gateway proves itself. `eap`: inside EAP alone, without a certificate (RFC 5998), by a "
        "method that authenticates both sides and makes keys. Default: `psk` with method `psk`, else `certificate`",
    )
    revocation: Literal["relaxed", "strict", "ifuri", "off"] = Field(
        default="relaxed",
        description="Whether the gateway's certificate has been revoked is asked with OCSP and revocation lists. One "
        "that has is refused. `relaxed`: connect with a notice if nobody can tell. `strict`: refuse then. `ifuri`: "
        "refuse then if the certificate says where to ask. `off`: do not ask",
    )
    certificate_forms: Annotated[
        tuple[Literal["pkcs7", "hash-and-url"], ...],
        _Parsed(_certificate_forms, _list_of({"enum": list(CERTIFICATE_FORMS)})),
    ] = Field(
        default=(),
        description="Forms besides plain X.509 in which the gateway may send its certificates. `pkcs7`: as a bundle. "
        "`hash-and-url`: as a URL, from which they are fetched by plain HTTP before the gateway has proven anything, "
        "never from this machine itself or its link",
    )
    allow_sha1: bool = Field(
        default=False, description="Sign and accept signatures with SHA-1, for gateways without RFC 7427"
    )


def _words(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


class Auth(Section):
    """Who we are and how we prove it."""

    SECTION: ClassVar[str] = "auth"

    method: MethodName = Field(
        description=f"How we prove who we are: {_words(name for name in SUPPORTED if name != 'eap')}, or `eap`: "
        "what the gateway asks for, of the methods that never show the password to anybody who has not proven who "
        "they are: AKA', AKA and SIM if there is a card, EAP-TLS if there is a certificate, PEAP, EAP-TTLS and MSCHAPv2"
    )
    identity: Text | None = Field(
        default=None,
        description="Our identity (IDi). Default with a certificate: its subject, else its first "
        "subjectAltName; with EAP: `user`",
    )
    user: Text | None = Field(default=None, description="The EAP account, if it differs from `identity`")
    password: SecretSource | None = Field(
        default=None, description="For EAP: a secret source. Default: ask on the terminal"
    )
    inner: InnerName | None = Field(
        default=None,
        description="What runs inside of EAP-TTLS and PEAP: `mschapv2` (the default), `gtc`, `md5`, `tls`; with "
        "EAP-TTLS also `eap-mschapv2` and `pap`",
    )
    anonymous_identity: Text | None = Field(
        default=None,
        description="With EAP-TLS, EAP-TTLS, PEAP and cards: what is said of us before the authentication server has "
        "proven who it is, such as `anonymous@example.com`. Default with EAP-TTLS and PEAP: `anonymous`, with the "
        "account's realm if it has one; with `eap` and EAP-TLS: the account, since a method that shows it may follow",
    )
    server_ca: Annotated[tuple[str, ...], _Parsed(values.paths, _ONE_OR_MORE)] | None = Field(
        default=None,
        description="With EAP-TLS, EAP-TTLS and PEAP: PEM file or list of files with the authorities that may vouch "
        "for the authentication server. Default: as for the gateway",
    )
    server_name: Text | None = Field(
        default=None,
        description="With EAP-TLS, EAP-TTLS and PEAP: the name that the authentication server's certificate must "
        "prove. Default: the gateway's identity",
    )
    sim: SimSource | None = Field(
        default=None,
        description="The card; required for methods `eap-sim`, `eap-aka` and `eap-aka-prime`: "
        '`{ reader = "..." }`, `{ command = ["..."] }`, or for tests `{ k = ..., opc = ... }`, see [Cards](#cards)',
    )
    psk: SecretSource | None = Field(
        default=None,
        description="Required for method `psk`, and if `gateway.auth` is: a secret source. Text as it stands, "
        "hexadecimal after `0x`, or Base64 after `0s`",
    )
    certificate: Annotated[KeyFile, BeforeValidator(_key_file), WithJsonSchema(_KEY_FILE)] | None = Field(
        default=None,
        description="Required for methods `certificate` and `eap-tls`: PEM chain, ours first, or PKCS#12. A path, or "
        '`{ file = "...", insecure = true }` if the file\'s permissions need an exception. Default with a key on a '
        "token: the certificate beside it",
    )
    key: Annotated[KeySource, BeforeValidator(_key_file), WithJsonSchema(_KEY_SOURCE)] | None = Field(
        default=None,
        description="The private key: PKCS#8, traditional or OpenSSH; the same two forms. Or one that stays where it "
        'is: `{ pkcs11 = "pkcs11:token=work;object=vpn", module = "opensc-pkcs11.so", pin = { prompt = true } }` on '
        'a token, `{ agent = "SHA256:..." }` with ssh-agent. Left out if it is in certificate',
    )
    key_passphrase: SecretSource | None = Field(
        default=None, description="For an encrypted key or PKCS#12 file: a secret source. Default: ask on the terminal"
    )
    signature: Annotated[tuple[str, ...], _Parsed(_signature, _list_of({"enum": list(SCHEME_NAMES)}, 1))] | None = (
        Field(
            default=None,
            description="The only schemes that may sign, in order of preference: rsa-pss-sha256 (384, 512), "
            "rsa-pkcs1-sha256 (384, 512), ecdsa-sha256 (384, 512), ed25519, ed448. Default: the best "
            "that the gateway's list of hashes allows; an RSA key whose PSS signature is refused "
            "signs once more with PKCS#1 v1.5",
        )
    )


class SecondAuth(Auth):
    """A second authentication after the first one (RFC 4739), such as a password after a certificate."""

    SECTION: ClassVar[str] = "second_auth"


class PostQuantumKey(Section):
    """A preshared key that is mixed into the keys, against who records now and has a quantum computer later."""

    id: Text = Field(description="What the gateway knows the key by (RFC 8784, PPK_ID_FIXED)")
    secret: SecretSource = Field(
        description="A secret source. Text as it stands, hexadecimal after `0x`, or Base64 after `0s`; 32 random "
        "bytes or more"
    )
    required: bool = Field(
        default=True,
        description="Refuse a gateway that does not use the key. `false`: connect without it, with a notice",
    )


class Crypto(Section):
    """Proposals in swanctl's keywords, in order of preference."""

    ike: Annotated[tuple[str, ...], _proposals("ike")] = Field(
        default=DEFAULT_IKE,
        description='Proposals for the IKE SA in swanctl\'s keywords, such as `["aes256gcm16-prfsha384-ecp384"]`',
    )
    esp: Annotated[tuple[str, ...], _proposals("esp")] = Field(
        default=DEFAULT_ESP,
        description='Proposals for the traffic, such as `["aes256gcm16", "aes256-sha256"]`. A key exchange in '
        "one means a fresh one at every rekey; `esn` and `noesn` choose the sequence numbers",
    )


class Network(Section):
    """What is asked of the gateway and what changes on this machine."""

    request: Annotated[tuple[Wanted, ...], _Parsed(_request, _list_of({"enum": list(get_args(Wanted))}))] = Field(
        default=("ipv4", "ipv6", "dns"),
        description="What to ask the gateway for. `[]`: nothing; what it grants is reached from this machine's "
        "own address. `p-cscf`: an operator's servers for calls (RFC 7651), which a login with a card asks for without "
        "being told so, if it asks for anything; `status` names them",
    )
    routes: Annotated[
        Literal["gateway", "all"] | tuple[IPNetwork, ...],
        _Parsed(values.routes, {"anyOf": [{"enum": ["gateway", "all"]}, _list_of(_NETWORK, 1)]}, warns=True),
    ] = Field(
        default="gateway",
        description='What enters the tunnel: "gateway" whatever the gateway grants (its list of subnets if '
        'its selectors let everything through, without what it wants outside), "all" everything, '
        "or a list of up to 256 networks",
    )
    exclude: Annotated[
        tuple[IPNetwork | Literal["lan"], ...],
        _Parsed(values.exclusions, _list_of({"anyOf": [{"const": "lan"}, _NETWORK]}), warns=True),
    ] = Field(
        default=(),
        description="Networks that stay outside; `lan` means the private networks this machine is attached to",
    )
    dns: Literal["auto", "split", "all", "none"] = Field(
        default="auto",
        description="Which names the gateway's DNS servers resolve. `all`: every name. `split`: only names below "
        "the domains it sent. `auto`: `all` for a full tunnel or if it sent no domains, else `split`. "
        "`none`: name resolution is left alone",
    )
    dns_servers: Annotated[tuple[IPv4Address | IPv6Address, ...], _Parsed(values.name_servers, _list_of(_ADDRESS))] = (
        Field(
            default=(),
            description="DNS servers to use instead of the gateway's, as a list of addresses that the tunnel leads to",
        )
    )
    dns_domains: Annotated[tuple[str, ...], _Parsed(values.domains, _list_of(_DOMAIN))] = Field(
        default=(), description="Domains to use instead of the gateway's: what `split` is about, and what is searched"
    )
    mtu: Annotated[int, _integer(576, 9000, zero=True)] = Field(
        default=0,
        description="Inner MTU, 576 to 9000 bytes (1280 with IPv6). 0: computed from the path and the cipher, "
        "and kept to what the path is found to carry",
    )
    interface: Annotated[str, _Parsed(values.interface, _TEXT)] = Field(
        default="ike%d", description="Name of the TUN device, up to 15 characters; `%d` is the first free number"
    )

    @model_validator(mode="after")
    def _mtu_carries_ipv6(self) -> Network:
        if 0 < self.mtu < 1280 and "ipv6" in self.request:
            hint = 'raise it, or leave "ipv6" out of network.request'
            raise Fault(f"has mtu = {self.mtu}, but IPv6 needs at least 1280 (RFC 8200)", hint=hint)
        return self


class Session(Section):
    """How the tunnel lives."""

    mobike: bool = Field(
        default=True, description="Follow changes of address without a new connection (RFC 4555), if the gateway can"
    )
    liveness: Annotated[int, _duration(5, 3600, zero=True)] = Field(
        default=30,
        description="After so much silence the gateway is asked whether it is there, 5 s to 1 h. 0: only when "
        "we send and hear nothing",
    )
    rekey_ike: Annotated[int, _duration(10, 7 * 86400)] = Field(
        default=4 * 3600, description="Lifetime of the IKE SA, 10 s to 7 days"
    )
    rekey_child: Annotated[int, _duration(10, 7 * 86400)] = Field(
        default=3600, description="Lifetime of the traffic's keys, 10 s to 7 days"
    )
    retry: Annotated[
        Literal["forever"] | int,
        _Parsed(values.retry, {"anyOf": [{"const": "forever"}, {"type": "integer", "minimum": 0, "maximum": 1000}]}),
    ] = Field(
        default="forever",
        description="Failed attempts in a row, 0 to 1000, after which a lost connection is given up. 0: it is "
        "never made again. For the first connection see `connect --timeout` and `--retry-first`",
    )
    refusals: Annotated[int, _integer(1, 1000)] = Field(
        default=3,
        description="How often in a row, 1 to 1000, a gateway that has proven its identity may refuse the "
        "credentials of a tunnel that was up before that ends it. Whatever else is refused "
        "meanwhile is tried again, and the routes stay",
    )
    encapsulation: Literal["auto", "always"] = Field(
        default="auto", description="`always` changes nothing here: ESP always travels in UDP"
    )
    offload: Literal["auto", "off"] = Field(
        default="auto",
        description="Super-packets and UDP segmentation if the kernel has them (`doctor` tells, `status` says "
        "what is in use). `off`: one packet at a time",
    )
    kill_switch: bool = Field(
        default=False,
        description="`true`: nothing leaves but through the tunnel, from the first moment of `connect` until "
        "`disconnect` or `unblock`, also after a crash. Of a split tunnel that is what is closed",
    )
    up: Commands = Field(
        default=(), description="Commands to run every time the tunnel comes up or moves, without a shell"
    )
    down: Commands = Field(
        default=(), description="Commands to run every time the tunnel is lost or ends, without a shell"
    )


def _listed(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _lines(name: str, example: str, check: Callable[[str], str]) -> _Parsed:
    def parse(value: object) -> tuple[str, ...]:
        if (
            not isinstance(value, list | tuple)
            or not value
            or not all(isinstance(item, str) and item for item in value)
        ):
            raise ValueError(f'must be a list of {name} such as `["{example}"]`')
        if len(value) > MAX_MATCHES:
            raise ValueError(f"lists {len(value)} {name}, at most {MAX_MATCHES} are possible")
        return tuple(check(item) for item in value)

    return _Parsed(parse, _list_of({"type": "string", "minLength": 1, "examples": [example]}, 1))


def _mac(written: str) -> str:
    digits = re.sub(r"[-:.]", "", written.lower())
    if not re.fullmatch(r"[0-9a-f]{12}", digits):
        raise ValueError('must list MAC addresses such as "00:00:5e:00:53:01"')
    return ":".join(digits[at : at + 2] for at in range(0, 12, 2))


class NetworkMatch(Section):
    """What a network has to be like."""

    interface: Literal["wired", "wifi", "cellular"] | None = Field(default=None, description="The kind of network")
    ssid: Annotated[tuple[str, ...], _lines("names", "Office", str)] = Field(
        default=(), description="Names of wireless networks. Anybody can give a network such a name"
    )
    gateway_mac: Annotated[tuple[str, ...], _lines("MAC addresses", "00:00:5e:00:53:01", _mac)] = Field(
        default=(), description="MAC addresses of the default gateway"
    )
    dns_suffix: Annotated[tuple[str, ...], _lines("domains", "corp.example", str)] = Field(
        default=(), description="Domains that names are searched in, or those above them"
    )
    dns_server: Annotated[tuple[str, ...], _lines("DNS servers", "10.0.0.53", str)] = Field(
        default=(), description="DNS servers of the network; `10.0.*` covers what begins so"
    )


class WhenRule(NetworkMatch):
    """What to do on a network that is like this in all that it names."""

    action: Literal["connect", "disconnect", "keep"] = Field(description="`keep`: up or down, as it is")
    trusted: bool | None = Field(default=None, description="Whether the network is one of `when.trusted`")


class When(Section):
    """On which networks `ikeclient watch` has the tunnel up."""

    trusted: Annotated[tuple[NetworkMatch, ...], BeforeValidator(_listed)] = Field(
        default=(),
        max_length=MAX_MATCHES,
        description='Networks to trust, such as `[{ gateway_mac = ["00:00:5e:00:53:01"], ssid = ["Office"] }]`; one '
        "has to fit in all that it names",
    )
    rules: Annotated[tuple[WhenRule, ...], BeforeValidator(_listed)] = Field(
        default=(),
        max_length=MAX_MATCHES,
        description='What to do where, such as `[{ action = "keep", interface = "cellular" }]`: the first rule that '
        "fits decides. None: disconnect where the network is trusted",
    )
    otherwise: Literal["connect", "disconnect", "keep"] = Field(
        default="connect", description="What to do where no rule fits"
    )

    @model_validator(mode="after")
    def _trusted_is_named(self) -> When:
        if any(match == NetworkMatch() for match in self.trusted):
            raise Fault("trusts every network: one of `trusted` names nothing", hint="say its ssid and its gateway_mac")
        return self


class Profile(Section):
    """One VPN connection."""

    version: Annotated[int, _Parsed(values.version, {"const": 1})] = Field(description="Version of this format")
    gateway: Gateway
    auth: Auth
    second_auth: SecondAuth | None = Field(
        default=None, description="A second authentication after the first one (RFC 4739): the keys of [auth]"
    )
    ppk: PostQuantumKey | None = Field(default=None, description="A post-quantum preshared key (RFC 8784)")
    crypto: Crypto = Crypto()
    network: Network = Network()
    session: Session = Session()
    when: When | None = Field(
        default=None, description="On which networks `ikeclient watch` has the tunnel up; `connect` does not ask"
    )


def _for_toml(schema: Any) -> Any:
    """A JSON Schema without null, which TOML does not have, and without the titles pydantic makes up."""
    match schema:
        case {"secret": "source"}:
            return {"$ref": f"#/$defs/{SecretSource.__name__}"}
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
