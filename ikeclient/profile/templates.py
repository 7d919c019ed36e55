"""The text of a new profile: everything a person has to fill in, and as comments what is worth knowing.

A template is put together from one part for each method and one for the routes, so that all combinations stay in step.
"""

from __future__ import annotations

from ikeclient.errors import UsageError

_HEAD = """\
# A profile of ikeclient. Lines that start with # show what else can be set.
version = 1

[gateway]
address = "{address}"            # host name, IPv4 or IPv6 address, or a list tried in order
# identity = "{address}"         # what the gateway must prove to be; default: its address
"""

_CA = """\
# ca = ["corp-ca.pem"]                    # who may vouch for the gateway; default: the system trust store
"""

_TUNNELLED = """
[auth]
method = "{method}"
identity = "{{identity}}"        # how the gateway knows us
# user = "alice"                          # the account, where it differs from the identity
password = {{{{ prompt = true }}}}              # ask on the terminal
# password = {{{{ file = "{{name}}.pw" }}}}       # or a file (chmod 600)
inner = "mschapv2"                        # {others}
anonymous_identity = "anonymous@example.com"  # what is said of us before the authentication server has proven itself
server_name = "radius.example.com"        # what the authentication server must prove to be; default: the gateway
# server_ca = ["radius-ca.pem"]           # who may vouch for it; default: as for the gateway
"""

_CARD = """
[auth]
method = "{method}"
identity = "{{identity}}"
# This is the permanent identity: {digit}, the IMSI, and the realm of the operator.
sim = {{{{ command = ["sim-helper"] }}}}       # a program that asks the card, see docs/profile.md
# sim = {{{{ reader = "USB" }}}}               # or the card's reader, by its name or a part of it
# An operator's gateway often has no certificate: set auth to eap and identity to the access point above, as ims.
"""

_AUTH = {
    "psk": """
[auth]
method = "psk"
identity = "{identity}"        # how the gateway knows us
psk = {{ file = "{name}.psk" }}             # chmod 600; text, 0x... hexadecimal or 0s... Base64
# psk = {{ env = "VPN_PSK" }}               # or from the environment
# psk = {{ command = ["pass", "vpn/psk"] }} # or from a password manager
""",
    "certificate": """
[auth]
method = "certificate"
# identity = "{identity}"      # default: the subject of the certificate
certificate = "{name}.pem"                # our certificate with its intermediates, or a PKCS#12 file without `key`
key = "{name}.key"                        # chmod 600
# key_passphrase = {{ prompt = true }}      # or file, env, command, keyring, credential; asked for when needed
# key = {{ pkcs11 = "pkcs11:token=work;object=vpn", module = "opensc-pkcs11.so", pin = {{ prompt = true }} }}  # a token
# key = {{ agent = "SHA256:nThbg6kXUpJWGl7E1IGOCspRomTxdCARLviKw6E5SY8" }}  # or ssh-agent, see `ssh-add -l`
""",
    "eap-mschapv2": """
[auth]
method = "eap-mschapv2"
identity = "{identity}"        # how the gateway knows us
# user = "alice"                          # the account, where it differs from the identity
password = {{ prompt = true }}              # ask on the terminal
# password = {{ file = "{name}.pw" }}       # or a file (chmod 600)
# password = {{ keyring = "vpn" }}          # or the desktop's keyring
""",
    "eap-tls": """
[auth]
method = "eap-tls"
identity = "{identity}"        # how the gateway and the authentication server know us
certificate = "{name}.pem"                # our certificate with its intermediates, or a PKCS#12 file without `key`
key = "{name}.key"                        # chmod 600
server_name = "radius.example.com"        # what the authentication server must prove to be; default: the gateway
# server_ca = ["radius-ca.pem"]           # who may vouch for it; default: as for the gateway
# anonymous_identity = "anonymous@example.com"  # what is said of us before it has
""",
    "eap-ttls": _TUNNELLED.format(method="eap-ttls", others="mschapv2, eap-mschapv2, gtc, md5, pap, tls"),
    "eap-peap": _TUNNELLED.format(method="eap-peap", others="mschapv2, gtc, md5, tls"),
    "eap-gtc": """
[auth]
method = "eap-gtc"
identity = "{identity}"        # how the gateway knows us
# user = "alice"                          # the account, where it differs from the identity
# Without a password the gateway's question is shown and answered on the terminal: a one-time password.
# password = {{ file = "{name}.pw" }}       # the answer to its first question (chmod 600)
""",
    "eap-md5": """
[auth]
method = "eap-md5"                        # proves us only, and makes no keys: the gateway's certificate does the rest
identity = "{identity}"        # how the gateway knows us
# user = "alice"                          # the account, where it differs from the identity
password = {{ prompt = true }}              # ask on the terminal
# password = {{ file = "{name}.pw" }}       # or a file (chmod 600)
""",
    "eap-sim": _CARD.format(method="eap-sim", digit="1"),
    "eap-aka": _CARD.format(method="eap-aka", digit="0"),
    "eap-aka-prime": _CARD.format(method="eap-aka-prime", digit="6"),
    "eap": """
[auth]
method = "eap"                            # what the gateway asks for, of the methods that show nobody the password
identity = "{identity}"        # how the gateway knows us
# user = "alice"                          # the account, where it differs from the identity
password = {{ prompt = true }}              # for PEAP, EAP-TTLS and MSCHAPv2: ask on the terminal
# certificate = "{name}.pem"              # for EAP-TLS: our certificate with its intermediates, and its key
# key = "{name}.key"                      # chmod 600
# sim = {{ command = ["sim-helper"] }}      # for a card, see docs/profile.md
server_name = "radius.example.com"        # what the authentication server must prove to be; default: the gateway
# server_ca = ["radius-ca.pem"]           # who may vouch for it; default: as for the gateway
""",
}

_ROUTES = {
    "split": """
[network]
routes = "gateway"                        # what the gateway offers; or a list such as ["10.0.0.0/8"]
dns = "auto"                              # auto | split | all | none
""",
    "full": """
[network]
routes = "all"                            # everything goes through the tunnel
exclude = ["lan"]                         # except the private networks this machine is attached to
dns = "all"                               # auto | split | all | none
""",
}

_TAIL = """
# [second_auth]                           # another authentication after the first: the keys of [auth]
# [ppk]                                   # a post-quantum preshared key: id, secret, required
# [session]
# liveness = 30                           # seconds of silence before the gateway is checked
# kill_switch = true                      # nothing leaves but through the tunnel, until `disconnect`
# retry = "forever"                       # attempts after a lost connection; meanwhile nothing passes the tunnel
# refusals = 3                            # refusals of the credentials in a row that end a tunnel which was up
"""

METHODS = tuple(_AUTH)
IDENTITY = "alice@example.com"
CARD_IDENTITIES = {
    f"eap-{kind}": f"{digit}001010123456789@nai.epc.mnc001.mcc001.3gppnetwork.org"
    for kind, digit in (("sim", 1), ("aka", 0), ("aka-prime", 6))
}
ROUTES = tuple(_ROUTES)


def template(
    method: str,
    routes: str = "split",
    *,
    name: str = "vpn",
    address: str = "vpn.example.com",
    identity: str = "",
) -> str:
    """A commented profile for one of `METHODS` with one of `ROUTES`; raises UsageError for another one.

    `name` is the profile's and names the files beside it. `address` and `identity` are put in as they are given; an
    identity of the method's kind stands in for none.
    """
    identity = identity or CARD_IDENTITIES.get(method, IDENTITY)
    if method not in _AUTH:
        raise UsageError(f"there is no template for method {method}", hint=f"there is one for {', '.join(METHODS)}")
    if routes not in _ROUTES:
        raise UsageError(f"there is no template for routes {routes}", hint=f"there is one for {', '.join(ROUTES)}")
    for value in (name, address, identity):
        if not value.isprintable() or '"' in value or "\\" in value:
            raise UsageError("a name in a new profile can hold no quote, backslash or control character")
    authority = "" if method == "psk" else _CA
    text = _HEAD + authority + _AUTH[method]
    return text.format(name=name, address=address, identity=identity) + _ROUTES[routes] + _TAIL
