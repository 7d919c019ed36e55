"""When a VPN of Apple's or Windows' is up by itself: in a profile that is imported what is said of it stays, and what
cannot stay weakens nothing.
"""

from __future__ import annotations

import plistlib
from typing import Any

import pytest
from foreign import apple_psk

from ikeclient.errors import ProfileError
from ikeclient.profile.importers.read import read_foreign
from ikeclient.profile.load.load import parse_profile
from ikeclient.profile.model.schema import NetworkMatch, When, WhenRule

RULES: list[dict[str, Any]] = [
    {"Action": "Disconnect", "InterfaceTypeMatch": "WiFi", "SSIDMatch": ["Office", "Office 5G"]},
    {"Action": "Disconnect", "DNSDomainMatch": ["*.corp.example"], "DNSServerAddressMatch": ["10.*"]},
    {"Action": "Ignore", "InterfaceTypeMatch": "Cellular"},
    {
        "Action": "EvaluateConnection",
        "ActionParameters": [{"Domains": ["a.example"], "DomainAction": "ConnectIfNeeded"}],
    },
    {"Action": "Disconnect", "URLStringProbe": "https://inside.corp.example/"},
    {"Action": "Connect", "InterfaceTypeMatch": "Ethernet", "URLStringProbe": "https://www.example/"},
]
PROFILE_XML = """<VPNProfile>
  <ProfileName>Work</ProfileName>
  <AlwaysOn>true</AlwaysOn>
  <TrustedNetworkDetection>{}</TrustedNetworkDetection>
  <NativeProfile>
    <Servers>vpn.example.com</Servers>
    <NativeProtocolType>IKEv2</NativeProtocolType>
    <Authentication><UserMethod>Eap</UserMethod></Authentication>
  </NativeProfile>
</VPNProfile>
"""
SCRIPT = """
Add-VpnConnection -Name "Work" -ServerAddress vpn.example.com -TunnelType IKEv2 -AuthenticationMethod Eap
Add-VpnConnectionTriggerDnsConfiguration -ConnectionName "Work" -DnsSuffix ".corp.example" -DnsIPAddress 10.0.0.53
Add-VpnConnectionTriggerDnsConfiguration -ConnectionName "Work" -DnsSuffix "out.corp.example"
Add-VpnConnectionTriggerTrustedNetwork -ConnectionName "Home" -DnsSuffix "home.example"
"""


def imported(rules: object) -> Any:
    document = plistlib.loads(apple_psk())
    [vpn] = [item for item in document["PayloadContent"] if "IKEv2" in item]
    vpn["IKEv2"]["OnDemandRules"] = rules
    return read_foreign(plistlib.dumps(document))


def test_rules_stay_in_their_order_with_all_that_they_ask_for() -> None:
    draft = imported(RULES)
    text, _ = draft.toml_alone()
    assert parse_profile(text).profile.when == When(
        rules=(
            WhenRule(action="disconnect", interface="wifi", ssid=("Office", "Office 5G")),
            WhenRule(action="disconnect", dns_suffix=("*.corp.example",), dns_server=("10.*",)),
            WhenRule(action="keep", interface="cellular"),
            WhenRule(action="keep"),
            WhenRule(action="connect", interface="wired"),
        ),
        otherwise="keep",
    )
    said = " ".join(draft.warnings)
    assert "OnDemandEnabled" not in said
    assert "ActionParameters" in said
    assert "rule 5 of OnDemandRules, with URLStringProbe" in said, "it would have disconnected everywhere"
    assert "rule 1 of OnDemandRules disconnects on a network that anybody can imitate" in " ".join(draft.risks)


@pytest.mark.parametrize(
    "rule", [{"Action": "Explode"}, {}, {"Action": "Connect", "InterfaceTypeMatch": "Carrier pigeon"}]
)
def test_a_rule_that_is_not_understood_is_left_out_and_said(rule: dict[str, Any]) -> None:
    draft = imported([rule])
    assert not draft.has("when", "rules")
    assert "rule 1 of OnDemandRules" in " ".join(draft.warnings)


@pytest.mark.parametrize("rules", ["no list", [7], [{"Action": 3}], [{"Action": "Connect"}] * 65])
def test_what_is_no_list_of_rules_is_an_error(rules: object) -> None:
    with pytest.raises(ProfileError):
        imported(rules)


def test_a_network_that_is_trusted_has_to_be_named() -> None:
    text, _ = imported(RULES).toml_alone()
    everything = text.partition("[when]")[0] + "[when]\ntrusted = [{}]\n"
    with pytest.raises(ProfileError, match="trusts every network"):
        parse_profile(everything)


@pytest.mark.parametrize(
    ("file", "trusted"),
    [
        (PROFILE_XML.format("corp.example, lab.example,"), ("corp.example", "lab.example")),
        (
            SCRIPT + 'Add-VpnConnectionTriggerTrustedNetwork "Work" -DnsSuffix "a.example","b.example" -PassThru',
            ("a.example", "b.example"),
        ),
        (SCRIPT + 'Add-VpnConnectionTriggerTrustedNetwork "Work" a.example', ("a.example",)),
        (
            SCRIPT + 'Set-VpnConnectionTriggerTrustedNetwork -ConnectionName "Work" -DefaultDnsSuffixes',
            (".corp.example",),
        ),
    ],
    ids=["ProfileXML", "PowerShell", "by position", "those of its name servers"],
)
def test_networks_that_windows_trusts_are_trusted_by_their_suffixes(file: str, trusted: tuple[str, ...]) -> None:
    draft = read_foreign(file.encode())
    text, _ = draft.toml_alone()
    assert parse_profile(text).profile.when == When(trusted=(NetworkMatch(dns_suffix=trusted),))
    assert "anybody can imitate: add its gateway_mac to when.trusted" in " ".join(draft.risks)
    assert "`ikeclient watch` has the tunnel up elsewhere" in " ".join(draft.warnings)


@pytest.mark.parametrize("file", [PROFILE_XML.format(" "), SCRIPT])
def test_a_file_of_windows_that_trusts_no_network_has_no_rules(file: str) -> None:
    assert not read_foreign(file.encode()).has("when", "trusted")


def test_trusted_networks_of_a_phone_book_are_said_to_be_missing() -> None:
    """Their names are not among what is known of the format."""
    book = "[Work]\r\nVpnStrategy=7\r\nNumTrustedNetworks={}\r\nDEVICE=vpn\r\nPhoneNumber=vpn.example.com\r\n"
    assert "set when.trusted" in " ".join(read_foreign(book.format(1).encode()).warnings)
    assert "set when.trusted" not in " ".join(read_foreign(book.format(0).encode()).warnings)


def test_more_trusted_networks_than_there_can_be_are_an_error() -> None:
    with pytest.raises(ProfileError, match="TrustedNetworkDetection has 65 entries"):
        read_foreign(PROFILE_XML.format(",".join(f"{number}.example" for number in range(65))).encode())
