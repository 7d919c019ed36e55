from collections.abc import Sequence
from ipaddress import ip_address, ip_interface, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ike_sealing import stream
from vectors.recordings import RECORDINGS

from ikeclient.errors import NegotiationRefused
from ikeclient.ike.events import Configuration
from ikeclient.ike.v2.exchanges.configuration import reply, request, valid_domain
from ikeclient.ike.v2.message.envelope import Envelope
from ikeclient.wire.config import ConfigAttribute, ConfigPayload
from ikeclient.wire.payload import Message
from ikeclient.wire.registry import ConfigAttributeType as T
from ikeclient.wire.registry import ConfigType


def config(*attributes: tuple[int, bytes], type_: ConfigType = ConfigType.REPLY) -> ConfigPayload:
    return ConfigPayload(type=type_, attributes=tuple(ConfigAttribute(type=T(t), value=v) for t, v in attributes))


def packed(address: str) -> bytes:
    return ip_address(address).packed


def address4(address: str) -> tuple[int, bytes]:
    return T.INTERNAL_IP4_ADDRESS, packed(address)


def address6(address: str, prefix: int = 64) -> tuple[int, bytes]:
    return T.INTERNAL_IP6_ADDRESS, packed(address) + bytes((prefix,))


def domain(name: bytes) -> tuple[int, bytes]:
    return T.INTERNAL_DNS_DOMAIN, name


GOOD = address4("10.88.0.1")

# Requests


@pytest.mark.parametrize(
    ("wanted", "types"),
    [
        (set(), []),
        ({"ipv4"}, [T.INTERNAL_IP4_ADDRESS, T.INTERNAL_IP4_SUBNET]),
        ({"ipv6"}, [T.INTERNAL_IP6_ADDRESS, T.INTERNAL_IP6_SUBNET]),
        ({"ipv4", "dns"}, [T.INTERNAL_IP4_ADDRESS, T.INTERNAL_IP4_SUBNET, T.INTERNAL_DNS_DOMAIN, T.INTERNAL_IP4_DNS]),
        ({"ipv6", "dns"}, [T.INTERNAL_IP6_ADDRESS, T.INTERNAL_IP6_SUBNET, T.INTERNAL_DNS_DOMAIN, T.INTERNAL_IP6_DNS]),
        ({"dns"}, [T.INTERNAL_DNS_DOMAIN, T.INTERNAL_IP4_DNS, T.INTERNAL_IP6_DNS]),
        ({"ipv6", "p-cscf"}, [T.INTERNAL_IP6_ADDRESS, T.INTERNAL_IP6_SUBNET, 21, 16390]),
        ({"p-cscf"}, [20, 16389, 21, 16390]),
    ],
)
def test_a_request_asks_for_what_the_profile_wants(wanted: set[str], types: list[T]) -> None:
    """RFC 8598 section 3.1: who asks for domains asks for servers too."""
    payloads = request(frozenset(wanted))
    assert [a.type for payload in payloads for a in payload.attributes] == types
    assert all(payload.type == ConfigType.REQUEST for payload in payloads)
    assert all(not a.value for payload in payloads for a in payload.attributes)


# Replies


def test_the_servers_of_an_operator_are_those_of_either_number() -> None:
    """RFC 7651, and the private numbers from before; without being asked for they are no business of ours."""
    payload = config(
        GOOD,
        (20, packed("10.99.0.77")),
        (21, packed("fd99::77")),
        (16389, packed("10.99.0.77")),
        (16390, packed("fd99::78")),
        (20, packed("127.0.0.1")),
        (21, packed("fe80::1")),
        (20, b"\x0a\x63"),
        (21, b""),
    )
    found, notices = reply(payload)
    assert list(map(str, found.p_cscf)) == ["10.99.0.77", "fd99::77", "fd99::78"]
    assert len(notices) == 3
    assert reply(payload, wanted=frozenset({"ipv4", "dns"})) == (Configuration(addresses=found.addresses), ())


def test_a_full_reply_is_taken_as_it_is() -> None:
    payload = config(
        address4("10.88.0.1"),
        (T.INTERNAL_IP4_NETMASK, packed("255.255.255.0")),
        address6("fd88::1", 112),
        (T.INTERNAL_IP4_DNS, packed("10.99.0.53")),
        (T.INTERNAL_IP6_DNS, packed("fd99::53")),
        domain(b"corp.example"),
        (T.INTERNAL_IP4_SUBNET, packed("10.99.0.0") + packed("255.255.255.0")),
        (T.INTERNAL_IP6_SUBNET, packed("fd99::") + bytes((64,))),
        (T.INTERNAL_IP4_DHCP, packed("10.99.0.1")),
        (T.APPLICATION_VERSION, b"\x1b[2J"),
        (T.SUPPORTED_ATTRIBUTES, bytes(8)),
        (30000, b"private"),
    )
    assert reply(payload) == (
        Configuration(
            addresses=(ip_interface("10.88.0.1/32"), ip_interface("fd88::1/128")),
            dns_servers=(ip_address("10.99.0.53"), ip_address("fd99::53")),
            dns_domains=("corp.example",),
            subnets=(ip_network("10.99.0.0/24"), ip_network("fd99::/64")),
        ),
        (),
    )


def unity(*networks: str, entry: int = 14) -> bytes:
    parsed = [ip_network(text) for text in networks]
    return b"".join((n.network_address.packed + n.netmask.packed).ljust(entry, b"\0") for n in parsed)


@pytest.mark.parametrize(
    "value",
    [
        unity("10.99.0.0/24", "10.98.0.0/16"),
        unity("10.99.0.0/24") + unity("10.98.0.0/16", entry=8),  # without the last padding
    ],
)
def test_lists_of_cisco_and_others_say_what_lies_behind_the_gateway(value: bytes) -> None:
    """UNITY_SPLIT_INCLUDE: entries of an address, a mask, and protocol and ports that nobody fills."""
    configuration, notices = reply(config(GOOD, (T.UNITY_SPLIT_INCLUDE, value)))
    assert configuration.subnets == (ip_network("10.99.0.0/24"), ip_network("10.98.0.0/16"))
    assert notices == ()


@pytest.mark.parametrize(
    ("networks", "excluded", "lan"),
    [
        (["192.168.7.0/24", "172.16.0.0/12"], ["192.168.7.0/24", "172.16.0.0/12"], False),
        (["0.0.0.0/0"], [], True),
        (["0.0.0.0/32"], [], True),
    ],
)
def test_a_gateway_may_want_networks_outside(networks: list[str], excluded: list[str], lan: bool) -> None:
    """UNITY_LOCAL_LAN; without an address it is the network that the client is on."""
    configuration, _ = reply(config(GOOD, (T.UNITY_LOCAL_LAN, unity(*networks))))
    assert configuration.excluded == tuple(map(ip_network, excluded))
    assert configuration.exclude_lan == lan


@pytest.mark.parametrize("kind", [T.UNITY_SPLIT_INCLUDE, T.UNITY_LOCAL_LAN])
@pytest.mark.parametrize(
    "value", [b"\x0a", bytes(7), bytes(9), bytes(13), bytes(15), packed("10.0.0.0") + packed("255.0.255.0") + bytes(6)]
)
def test_a_malformed_list_of_networks_is_refused_with_a_notice(kind: T, value: bytes) -> None:
    """K12."""
    configuration, notices = reply(config(GOOD, (kind, value)))
    assert configuration == Configuration(addresses=(ip_interface("10.88.0.1/32"),))
    assert len(notices) == 1


def test_excluded_networks_are_capped() -> None:
    """K12."""
    configuration, notices = reply(
        config(GOOD, (T.UNITY_LOCAL_LAN, b"".join(unity(f"10.{n >> 8}.{n & 255}.0/24") for n in range(1000))))
    )
    assert len(configuration.excluded) == 256
    assert len(notices) == 1


def test_no_reply_and_what_is_none_assign_nothing() -> None:
    assert reply(None) == (Configuration(), ())
    for type_ in (ConfigType.REQUEST, ConfigType.SET, ConfigType.ACK, ConfigType(99)):
        assert reply(config(GOOD, type_=type_)) == (Configuration(), ())


def test_empty_attributes_assign_nothing() -> None:
    """RFC 7296 section 3.15.1: a zero length means that no value is given."""
    assert reply(config(*((t, b"") for t in T))) == (Configuration(), ())


def test_a_recorded_reply_assigns_what_the_gateway_was_told_to() -> None:
    recording = RECORDINGS["psk-gcm"]
    assert recording.suite is not None
    assert recording.keys is not None
    opener = Envelope(recording.suite, recording.keys, initiator=True, entropy=stream("unused"), fragment=True)
    data = recording.messages[3].data
    payloads = opener.open(data, Message.parse(data), 0.0)
    assert payloads is not None
    (payload,) = (p for p in payloads if isinstance(p, ConfigPayload))
    configuration, notices = reply(payload)
    assert notices == ()
    assert configuration.dns_servers == (ip_address("10.99.0.53"),)
    assert configuration.dns_domains == ("corp.example",)
    assert [str(a) for a in configuration.addresses] == ["10.88.0.1/32", "fd88::1/128"]


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("0.0.0.0", "unspecified"),
        ("0.1.2.3", "unspecified"),
        ("127.0.0.1", "a loopback address"),
        ("127.255.0.7", "a loopback address"),
        ("224.0.0.1", "a multicast address"),
        ("239.255.255.255", "a multicast address"),
        ("255.255.255.255", "the broadcast address"),
        ("::", "unspecified"),
        ("::1", "a loopback address"),
        ("ff02::1", "a multicast address"),
        ("169.254.7.7", "a link-local address"),
        ("fe80::1", "a link-local address"),
        ("febf::1", "a link-local address"),
        ("::ffff:127.0.0.1", "a loopback address"),
        ("::ffff:10.88.0.1", "an IPv4 address in IPv6 notation"),
        ("203.0.113.7", "the gateway's own address"),
        ("2001:db8::7", "the gateway's own address"),
    ],
)
def test_an_address_that_nobody_can_have_is_refused_with_its_reason(address: str, reason: str) -> None:
    """K12: 0.0.0.0, 127/8, multicast, broadcast, server's own IP."""
    gateway = ip_address("203.0.113.7" if "." in address else "2001:db8::7")
    attribute = address6(address) if ":" in address else address4(address)
    with pytest.raises(NegotiationRefused) as caught:
        reply(config(GOOD, attribute), gateway=gateway)
    assert caught.value.lines() == [
        f"the gateway assigned the address {ip_address(address)}",
        f"that is {reason}",
        "the gateway's address pool is misconfigured: ask its administrator",
    ]


@pytest.mark.parametrize(
    ("wanted", "addresses", "servers", "subnets"),
    [
        (set(), [], [], []),
        ({"dns"}, [], ["10.99.0.53", "fd99::53"], []),
        ({"ipv4"}, ["10.88.0.1"], [], ["10.99.0.0/16"]),
        ({"ipv6"}, ["fd88::1"], [], ["fd99::/64"]),
        ({"ipv4", "dns"}, ["10.88.0.1"], ["10.99.0.53", "fd99::53"], ["10.99.0.0/16"]),
    ],
)
def test_what_was_not_asked_for_is_not_taken(
    wanted: set[str], addresses: list[str], servers: list[str], subnets: list[str]
) -> None:
    """K12, K14: a profile that leaves name resolution alone, or wants no IPv6, is not overruled by the gateway."""
    payload = config(
        address4("10.88.0.1"),
        address6("fd88::1"),
        (T.INTERNAL_IP4_DNS, packed("10.99.0.53")),
        (T.INTERNAL_IP6_DNS, packed("fd99::53")),
        (T.INTERNAL_IP4_SUBNET, packed("10.99.0.0") + packed("255.255.0.0")),
        (T.INTERNAL_IP6_SUBNET, packed("fd99::") + b"\x40"),
        (T.UNITY_LOCAL_LAN, bytes(14) if "ipv4" not in wanted else b""),
        (T.UNITY_DEF_DOMAIN, b"corp.example" if "dns" not in wanted else b""),
    )
    configuration, notices = reply(payload, wanted=frozenset(wanted))
    assert [str(address.ip) for address in configuration.addresses] == addresses
    assert [str(server) for server in configuration.dns_servers] == servers
    assert [str(subnet) for subnet in configuration.subnets] == subnets
    assert configuration.dns_domains == ()
    assert not configuration.exclude_lan
    assert notices == ()


@pytest.mark.parametrize("address", ["10.88.0.1", "100.64.0.1", "192.0.2.1", "240.0.0.1", "8.8.8.8"])
def test_every_other_address_may_be_assigned(address: str) -> None:
    """Gateways assign from private, shared and even reserved space."""
    configuration, notices = reply(config(address4(address)), gateway=ip_address("203.0.113.7"))
    assert configuration.addresses == (ip_interface(f"{address}/32"),)
    assert notices == ()


@pytest.mark.parametrize(
    "attribute",
    [
        *((T.INTERNAL_IP4_ADDRESS, bytes(size)) for size in (1, 3, 5, 8, 16, 17, 65000)),
        *((T.INTERNAL_IP6_ADDRESS, bytes(size)) for size in (1, 4, 5, 15, 18, 65000)),
        address6("fd88::1", 129),
        address6("fd88::1", 255),
        *((T.INTERNAL_IP4_NETMASK, bytes(size)) for size in (1, 3, 5)),
        (T.INTERNAL_IP4_NETMASK, packed("255.0.255.0")),
        (T.INTERNAL_IP4_NETMASK, packed("0.0.0.255")),
        (T.INTERNAL_IP4_NETMASK, packed("0.255.255.255")),
        *((T.INTERNAL_IP4_DNS, bytes(size)) for size in (3, 5, 16)),
        *((T.INTERNAL_IP6_DNS, bytes(size)) for size in (4, 15, 17)),
        *((T.INTERNAL_IP4_SUBNET, bytes(size)) for size in (4, 7, 9, 17)),
        (T.INTERNAL_IP4_SUBNET, packed("10.0.0.0") + packed("255.0.255.0")),
        (T.INTERNAL_IP4_SUBNET, packed("10.0.0.0") + packed("0.0.0.255")),  # a wildcard mask is no netmask
        *((T.INTERNAL_IP6_SUBNET, bytes(size)) for size in (8, 16, 18)),
        (T.INTERNAL_IP6_SUBNET, packed("fd99::") + b"\x81"),
        (T.INTERNAL_IP4_SUBNET, packed("127.0.0.0") + packed("255.0.0.0")),
        (T.INTERNAL_IP4_SUBNET, packed("224.0.0.0") + packed("240.0.0.0")),
        (T.INTERNAL_IP6_SUBNET, packed("ff00::") + b"\x08"),
    ],
    ids=lambda attribute: f"{T(attribute[0])}-{attribute[1][:20].hex()}-{len(attribute[1])}",
)
def test_a_misshapen_item_is_left_out_with_a_notice_and_the_rest_stays(attribute: tuple[int, bytes]) -> None:
    """K12: address length 5, prefix 129, netmask non-contiguous."""
    configuration, (notice,) = reply(config(attribute, GOOD, domain(b"corp.example")))
    assert notice.startswith(f"refused {T(attribute[0])} from the gateway: ")
    assert len(notice) < 120
    assert configuration == Configuration(addresses=(ip_interface("10.88.0.1/32"),), dns_domains=("corp.example",))


def test_an_ipv6_address_may_come_without_its_prefix_length() -> None:
    configuration, _ = reply(config((T.INTERNAL_IP6_ADDRESS, packed("fd88::1"))))
    assert configuration.addresses == (ip_interface("fd88::1/128"),)


def test_host_bits_of_a_subnet_do_not_matter() -> None:
    configuration, notices = reply(
        config(
            (T.INTERNAL_IP4_SUBNET, packed("10.99.0.7") + packed("255.255.255.0")),
            (T.INTERNAL_IP4_SUBNET, packed("10.99.0.8") + packed("255.255.255.0")),
            (T.INTERNAL_IP4_SUBNET, bytes(8)),
            (T.INTERNAL_IP6_SUBNET, packed("fd99::7") + b"\x40"),
        )
    )
    assert configuration.subnets == (ip_network("10.99.0.0/24"), ip_network("0.0.0.0/0"), ip_network("fd99::/64"))
    assert notices == ()


@pytest.mark.parametrize(
    ("server", "reason"),
    [
        ("127.0.0.1", "a loopback address"),
        ("127.0.0.53", "a loopback address"),
        ("0.0.0.0", "unspecified"),
        ("169.254.169.254", "link-local"),
        ("224.0.0.251", "a multicast address"),
        ("255.255.255.255", "the broadcast address"),
        ("::1", "a loopback address"),
        ("::", "unspecified"),
        ("fe80::1", "link-local"),
        ("ff02::fb", "a multicast address"),
        ("::ffff:127.0.0.1", "a loopback address"),
    ],
)
def test_a_name_server_that_is_this_machine_or_link_is_refused(server: str, reason: str) -> None:
    """K14: 127.0.0.1, 0.0.0.0, link-local."""
    type_ = T.INTERNAL_IP6_DNS if ":" in server else T.INTERNAL_IP4_DNS
    good = (T.INTERNAL_IP4_DNS, packed("10.99.0.53"))
    configuration, (notice,) = reply(config(GOOD, (type_, packed(server)), good))
    assert configuration.dns_servers == (ip_address("10.99.0.53"),)
    assert notice == f"refused {type_} from the gateway: DNS server {ip_address(server)} is {reason}"


# Domains


@pytest.mark.parametrize("type_", [T.INTERNAL_DNS_DOMAIN, T.UNITY_DEF_DOMAIN, T.UNITY_SPLITDNS_NAME])
@pytest.mark.parametrize(
    ("value", "domains"),
    [
        (b"corp.example", ["corp.example"]),
        (b"corp.example.", ["corp.example"]),
        (b"CORP.Example", ["corp.example"]),
        (b"corp.example,lab.example", ["corp.example", "lab.example"]),
        (b"corp.example lab.example", ["corp.example", "lab.example"]),
        (b" corp.example , lab.example,, ", ["corp.example", "lab.example"]),
        (b"corp.example,CORP.example.", ["corp.example"]),
        (b"_ldap._tcp.corp.example", ["_ldap._tcp.corp.example"]),
        (b"xn--zrich-kva.example", ["xn--zrich-kva.example"]),  # punycode is plain ASCII
        (b"local", ["local"]),
        (b" , ", []),
        (b"a" * 63 + b".example", ["a" * 63 + ".example"]),
        (b".".join([b"a" * 49] * 5) + b".abc", [".".join(["a" * 49] * 5) + ".abc"]),  # 253 in all
    ],
)
def test_domains_come_in_several_notations(type_: T, value: bytes, domains: list[str]) -> None:
    """Commas and spaces in one attribute, UNITY attributes beside RFC 8598's: all are in use."""
    configuration, notices = reply(config(GOOD, (type_, value)))
    assert list(configuration.dns_domains) == domains
    assert notices == ()


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"x;id", "x;id"),
        (b"$(reboot)", "$(reboot)"),
        (b"`id`.example", "`id`.example"),
        (b"corp\0.example", r"corp\x00.example"),
        (b"corp.example\0", r"corp.example\x00"),
        (b"corp.example\nnameserver", r"corp.example\nnameserver"),
        (b"corp.example\tx", r"corp.example\tx"),
        (b"\x1b]0;owned\x07.example", r"\x1b]0;owned\x07.example"),
        (b"..", ".."),
        (b".", "."),
        (b"corp..example", "corp..example"),
        (b".corp.example", ".corp.example"),
        (b"-rf.example", "-rf.example"),
        (b"--help", "--help"),
        (b"corp-.example", "corp-.example"),
        (b"corp/../../etc", "corp/../../etc"),
        (b"~corp.example", "~corp.example"),
        (b"*.example", "*.example"),
        ("zürich.example".encode(), "z\ufffd\ufffdrich.example"),
        (b"a" * 64 + b".example", "a" * 63 + "…"),
        (b".".join([b"a" * 49] * 5) + b".abcd", ("a" * 49 + ".aaaaaaaaaaaaa") + "…"),  # 254 in all
        (b"A" * 65000, "A" * 63 + "…"),
    ],
)
def test_a_domain_that_is_no_host_name_is_dropped_with_a_harmless_notice(value: bytes, shown: str) -> None:
    """K13: `x;id`, `$(reboot)`, NUL, newline, 70 KB, `..`, leading `-` (CVE-2025-10680)."""
    configuration, (notice,) = reply(config(GOOD, domain(value), domain(b"corp.example")))
    assert configuration.dns_domains == ("corp.example",)
    assert notice == f"refused DNS domain '{shown}' from the gateway"


@given(st.binary(max_size=60))
def test_whatever_comes_only_host_names_get_through(value: bytes) -> None:
    """K13."""
    configuration, notices = reply(config(GOOD, domain(value)))
    allowed = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_.")
    for name in configuration.dns_domains:
        assert set(name) <= allowed
        assert 0 < len(name) <= 253
        assert all(0 < len(label) <= 63 and label[0] != "-" and label[-1] != "-" for label in name.split("."))
    assert all(notice.isprintable() for notice in notices)


def test_a_trailing_newline_does_not_slip_through() -> None:
    """K13: the classic mistake of a regular expression that ends in $."""
    assert not valid_domain("corp.example\n")
    assert valid_domain("corp.example")


# Floods


def many(make: Sequence[tuple[int, bytes]]) -> tuple[Configuration, tuple[str, ...]]:
    return reply(config(*make))


def test_at_most_16_addresses() -> None:
    """K12: 500 addresses, duplicates."""
    found, notices = many([address4(f"10.88.{n // 250}.{1 + n % 250}") for n in range(500)] * 2)
    assert len(found.addresses) == 16
    assert notices == ("the gateway sent more than 16 addresses: the others are ignored",)
    assert many([GOOD] * 500) == (Configuration(addresses=(ip_interface("10.88.0.1/32"),)), ())


def test_at_most_16_name_servers() -> None:
    """K12."""
    found, notices = many([(T.INTERNAL_IP4_DNS, packed(f"10.99.0.{n}")) for n in range(1, 200)])
    assert found.dns_servers == tuple(ip_address(f"10.99.0.{n}") for n in range(1, 17))
    assert notices == ("the gateway sent more than 16 DNS servers: the others are ignored",)


def test_at_most_64_domains() -> None:
    """K12."""
    found, notices = many(
        [domain(b" ".join(b"d%d.example" % n for n in range(start, start + 50))) for start in (0, 50)]
    )
    assert found.dns_domains == tuple(f"d{n}.example" for n in range(64))
    assert notices == ("the gateway sent more than 64 DNS domains: the others are ignored",)


def test_at_most_256_subnets() -> None:
    """K12."""
    found, notices = many(
        [(T.INTERNAL_IP4_SUBNET, bytes((10, n >> 8, n & 255, 0)) + packed("255.255.255.0")) for n in range(8000)]
    )
    assert len(found.subnets) == 256
    assert notices == ("the gateway sent more than 256 subnets: the others are ignored",)


def test_at_most_16_notices() -> None:
    """K15: a flood of bad items does not become a flood of words, and each is said once."""
    _, notices = many([domain(b"bad;%d" % n) for n in range(1000)])
    assert notices == tuple(f"refused DNS domain 'bad;{n}' from the gateway" for n in range(16))
    _, notices = many([domain(b",".join([b"bad;domain"] * 1000))] * 5)
    assert notices == ("refused DNS domain 'bad;domain' from the gateway",)


def test_addresses_of_a_lost_connection_are_asked_for_again() -> None:
    had = (ip_interface("10.88.0.1/32"), ip_interface("fd88::1/128"))
    [payload] = request(frozenset({"ipv4", "ipv6"}), had)
    values = {attribute.type: attribute.value for attribute in payload.attributes}
    assert values[T.INTERNAL_IP4_ADDRESS] == bytes((10, 88, 0, 1))
    assert values[T.INTERNAL_IP6_ADDRESS] == ip_address("fd88::1").packed + bytes((128,))
    assert values[T.INTERNAL_IP4_SUBNET] == b""
