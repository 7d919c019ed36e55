"""`ikeclient connect` against a real gateway: every way to authenticate, every suite, every path, real packets."""

from __future__ import annotations

import pytest
from lab.gateway import PASSWORD, Offer
from lab.machines import wait_for
from lab.network import GATEWAY_IPV6, INSIDE_IPV4, INSIDE_IPV6, INTERNET_IPV4, Topology
from lab.traffic import fetch, peer_address, ping, reaches, upload
from lab.world import Lab, MakeLab

INSIDE_ONLY = "icmp or tcp or icmpv6.type == 128"


def carries_traffic(lab: Lab, host: str = INSIDE_IPV4) -> None:
    """Pings, and files in both directions compared by their hash."""
    machine = lab.network.client
    assert ping(machine, host, count=5) >= 4
    assert fetch(machine, host).sha256 == lab.servers.sha256
    assert upload(machine, host, size=300_000)


def test_a_psk_tunnel_carries_both_families_and_leaves_nothing(lab: Lab) -> None:
    before = lab.client.traces()
    connection = lab.connected()
    with lab.capture() as capture:
        carries_traffic(lab)
        carries_traffic(lab, INSIDE_IPV6)
    assert capture.count("esp") > 100
    assert capture.count(INSIDE_ONLY) == 0
    assert peer_address(lab.network.client, INSIDE_IPV4).startswith("10.88.0.")
    assert peer_address(lab.network.client, INTERNET_IPV4) == "10.1.0.2"
    status = lab.status()
    [child] = lab.gateway.children()
    [ours] = status["children"]
    assert (ours["spi_in"], ours["spi_out"]) == (child["spi-out"], child["spi-in"])
    assert ours["bytes_in"] > 1 << 20
    assert not status["local"]["behind_nat"]
    done = lab.client.disconnect("work")
    assert done.returncode == 0
    assert connection.process.returncode == 0
    assert lab.gateway.list_sas() == []
    assert lab.client.traces() == before


@pytest.mark.parametrize("kind", ["rsa2048", "ecdsa256", "ecdsa384", "ecdsa521", "ed25519", "ed448"])
def test_certificates_of_every_kind_authenticate_both_sides(lab: Lab, kind: str) -> None:
    lab.connected(Offer(auth="certificate", kind=kind))
    carries_traffic(lab)


def test_rsa_pss_is_used_both_ways_when_the_gateway_demands_it(lab: Lab) -> None:
    scheme = "ike:rsa/pss-sha256"
    lab.connected(Offer(auth="certificate", kind="rsa2048", gateway_scheme=scheme, client_scheme=scheme))
    assert lab.gateway.log.count("RSA_EMSA_PSS_SHA2_256") == 2
    carries_traffic(lab)


LOGIN = "parsed IKE_AUTH request 1 [ IDi"  # IKE_SA_INIT may be repeated, which is no login


def test_a_gateway_that_takes_no_rsa_pss_gets_pkcs1_v15(lab: Lab) -> None:
    """As the ones do that know RFC 7427 but not RSASSA-PSS: AUTHENTICATION_FAILED, and one more try."""
    connection = lab.connected(Offer(auth="certificate", kind="rsa2048", client_scheme="ike:rsa-sha256"))
    assert lab.gateway.log.count(LOGIN) == 2
    assert "with RSA_EMSA_PKCS1_SHA2_256 successful" in lab.gateway.log
    assert "refused our signature with RSA-PSS with SHA-256" in connection.stderr
    carries_traffic(lab)
    assert lab.client.run("reconnect", "work").returncode == 0
    wait_for(lambda: lab.gateway.log.count(LOGIN) > 2, timeout=20, what="another login")
    lab.client.wait_state("connected", timeout=20)
    assert lab.gateway.log.count(LOGIN) == 3  # what was accepted is asked first
    carries_traffic(lab)
    lab.client.disconnect("work")
    lab.client.write_profile(lab.gateway, {"auth": {"signature": ["rsa-pkcs1-sha256"]}})
    before = lab.gateway.log.count(LOGIN)
    lab.client.connect()
    assert lab.gateway.log.count(LOGIN) == before + 1
    lab.client.disconnect("work")
    lab.client.write_profile(lab.gateway, {"auth": {"signature": ["rsa-pss-sha256"]}})
    refused = lab.client.start()
    assert refused.wait() == 4
    assert "we signed with RSA-PSS with SHA-256" in refused.stderr


def test_the_classic_methods_serve_a_gateway_without_rfc_7427(lab: Lab) -> None:
    lab.connected(Offer(auth="certificate", kind="ecdsa256", settings={"signature_authentication": False}))
    assert "with ECDSA-256 signature successful" in lab.gateway.log
    carries_traffic(lab)


def test_classic_rsa_needs_the_profile_to_allow_sha1(lab: Lab) -> None:
    refused = lab.start(Offer(auth="certificate", kind="rsa2048", settings={"signature_authentication": False}))
    assert refused.wait() in (4, 7)
    assert "set gateway.allow_sha1 = true" in refused.stderr
    assert lab.gateway.log.count("parsed IKE_SA_INIT request") == 1
    lab.client.write_profile(lab.gateway, {"gateway": {"allow_sha1": True}})
    lab.client.connect()
    carries_traffic(lab)


def test_eap_mschapv2_authenticates_the_client(lab: Lab) -> None:
    lab.connected(Offer(auth="eap-mschapv2"))
    [sa] = lab.gateway.list_sas()
    assert sa["remote-eap-id"] == "alice"
    carries_traffic(lab)


def test_a_password_can_come_from_standard_input(lab: Lab) -> None:
    lab.prepare(Offer(auth="eap-mschapv2"), auth={"password": None})
    done = lab.client.run("connect", "work", "--detach", "--password-stdin", stdin=PASSWORD + "\n")
    assert done.returncode == 0, done.stderr
    assert ping(lab.network.client, INSIDE_IPV4) == 3
    lab.client.disconnect("work")


def test_eap_md5_serves_only_a_profile_that_names_it(lab: Lab) -> None:
    """E4: a method is answered only if the profile allows it."""
    refused = lab.start(Offer(auth="eap-md5"), auth={"method": "eap-mschapv2"})
    assert refused.wait() == 4
    assert "offers eap-md5; the profile allows eap-mschapv2" in refused.stderr
    lab.client.write_profile(lab.gateway)
    lab.client.connect()
    carries_traffic(lab)


@pytest.mark.parametrize(
    "suite",
    [
        "aes128gcm16",
        "aes256gcm16",
        "aes128ccm16",
        "chacha20poly1305",
        "aes128-sha1",
        "aes128-sha256",
        "aes256-sha256",
        "aes256-sha384",
        "aes256-sha512",
    ],
)
def test_every_esp_suite_carries_traffic(lab: Lab, suite: str) -> None:
    lab.connected(Offer(esp_proposals=suite), crypto={"esp": [suite]})
    status = lab.status()
    assert status["children"][0]["suite"] == suite
    carries_traffic(lab)


@pytest.mark.parametrize(
    "suite",
    [
        "aes128gcm16-prfsha256-ecp256",
        "aes256gcm16-prfsha384-ecp384",
        "aes256gcm16-prfsha512-ecp521",
        "chacha20poly1305-prfsha256-x25519",
        "aes128-sha1-modp2048",
        "aes256-sha256-modp3072",
        "aes256-sha384-modp4096",
        "aes256-sha512-x448",
        "aes256-sha512-modp8192",
    ],
)
def test_every_ike_suite_negotiates(lab: Lab, suite: str) -> None:
    connection = lab.start(Offer(proposals=suite), crypto={"ike": [suite]})
    status = connection.wait_connected()
    assert status["ike"]["suite"] == suite
    assert ping(lab.network.client, INSIDE_IPV4) == 3


def test_the_outer_path_can_be_ipv6(lab: Lab) -> None:
    lab.connected(gateway={"address": GATEWAY_IPV6})
    with lab.capture() as capture:
        carries_traffic(lab)
        carries_traffic(lab, INSIDE_IPV6)
    assert capture.count("ipv6 and esp") > 100


@pytest.mark.parametrize("side", ["client", "gateway", "both"])
def test_a_tunnel_crosses_address_translation_and_says_so(make_lab: MakeLab, side: str) -> None:
    lab = make_lab(Topology(client_nat=side != "gateway", gateway_nat=side != "client"))
    lab.connected()
    carries_traffic(lab)
    status = lab.status()
    assert status["local"]["behind_nat"] == (side != "gateway")
    assert lab.gateway.list_sas()[0].get("nat-local") == ("yes" if side != "client" else None)


def test_a_cookie_is_returned(lab: Lab) -> None:
    lab.connected(Offer(cookies=True))
    assert "IKE_SA_INIT response 0 [ N(COOKIE) ]" in lab.gateway.log
    carries_traffic(lab)


def test_another_key_exchange_is_taken_when_asked_for(lab: Lab) -> None:
    lab.connected(Offer(proposals="aes256-sha256-ecp384"), crypto={"ike": ["aes256-sha256-x25519-ecp384"]})
    assert "N(INVAL_KE)" in lab.gateway.log
    status = lab.status()
    assert status["ike"]["suite"] == "aes256-sha256-ecp384"


def test_large_certificates_pass_a_network_that_drops_fragments(lab: Lab) -> None:
    for machine in (lab.network.client, lab.network.gateway):
        machine.drop_fragments()
    pki = lab.gateway.pki
    lab.connected(
        Offer(auth="certificate", gateway_certificate=pki.large("gateway"), client_certificate=pki.large("client"))
    )
    assert "EF(1/" in lab.gateway.log
    carries_traffic(lab)


def test_a_path_of_1280_bytes_carries_whole_files(lab: Lab) -> None:
    """P13: the inner MTU and the segment size follow from the path, so nothing is fragmented outside."""
    lab.network.set_path_mtu(1280)
    lab.connected()
    with lab.capture() as capture:
        carries_traffic(lab)
        carries_traffic(lab, INSIDE_IPV6)
        assert ping(lab.network.client, INSIDE_IPV4, size=1400) == 3
    status = lab.status()
    assert status["mtu"] < 1280
    assert capture.count("ip.flags.mf == 1 && tcp") == 0
    assert capture.count("ip.len > 1280") == 0


def test_a_bad_cable_does_not_prevent_the_tunnel(make_lab: MakeLab) -> None:
    lab = make_lab(Topology(impaired=True))
    assert lab.network.relay is not None
    lab.network.relay.impair(delay=0.005, jitter=0.004, reorder=0.05, duplicate=0.05, loss=0.05, seed=5)
    lab.connected()
    assert fetch(lab.network.client, INSIDE_IPV4, timeout=60).sha256 == lab.servers.sha256


def test_the_gateway_may_end_the_tunnel_and_it_comes_back(lab: Lab) -> None:
    connection = lab.connected()
    lab.gateway.terminate(ike="rw")
    wait_for(lambda: "reconnecting" in connection.stderr, timeout=10, what="a reconnection")
    lab.client.wait_state("connected", timeout=15)
    carries_traffic(lab)
    status = lab.status()
    assert status["reconnects"] == 1


def test_a_child_that_the_gateway_deletes_is_made_again_without_a_new_connection(lab: Lab) -> None:
    """S5, RFC 7296 section 2.25: the IKE SA stays, and so does the inner address."""
    lab.connected()
    before = lab.status()
    lab.gateway.terminate(child="net")

    def replaced() -> bool:
        ping(lab.network.client, INSIDE_IPV4, count=1)  # it is made when a packet wants to leave
        status = lab.client.status("work")
        return bool(
            status and status["children"] and status["children"][0]["spi_in"] != before["children"][0]["spi_in"]
        )

    wait_for(replaced, timeout=10, what="another Child SA")
    carries_traffic(lab)
    after = lab.status()
    assert after["ike"]["spi_i"] == before["ike"]["spi_i"]
    assert after["addresses"] == before["addresses"]
    assert (after["state"], after["reconnects"]) == ("connected", 0)
    [child] = lab.gateway.children()
    [ours] = after["children"]
    assert (ours["spi_in"], ours["spi_out"]) == (child["spi-out"], child["spi-in"])


def test_the_gateway_may_end_the_tunnel_for_good(lab: Lab) -> None:
    before = lab.client.traces()
    connection = lab.connected(session={"retry": 0})
    lab.gateway.terminate(ike="rw")
    assert connection.wait() == 5
    assert "DELETE" in connection.stderr
    assert lab.client.traces() == before


def test_both_ends_rekey_while_files_are_carried(lab: Lab) -> None:
    lab.connected(session={"rekey_child": 10, "rekey_ike": 13})
    for turn in range(15):
        if turn in (1, 3):
            lab.gateway.rekey(child="net")
        if turn in (2, 5):
            lab.gateway.rekey(ike="rw")
        assert fetch(lab.network.client, INSIDE_IPV4).sha256 == lab.servers.sha256
        assert ping(lab.network.client, INSIDE_IPV4, count=5, interval=0.2) == 5
    status = lab.status()
    assert status["reconnects"] == 0
    assert status["ike"]["rekeys"] >= 2
    assert status["children"][0]["rekeys"] >= 3
    assert lab.gateway.log.count("parsed CREATE_CHILD_SA request") >= 1
    [child] = [child for child in lab.gateway.children() if child["state"] == "INSTALLED"]
    [ours] = status["children"]
    assert (ours["spi_in"], ours["spi_out"]) == (child["spi-out"], child["spi-in"])


def test_the_ports_of_a_busy_machine_do_not_matter(lab: Lab) -> None:
    """O2: another daemon holds ports 500 and 4500; an ephemeral port does."""
    script = "import socket,time;s=[socket.socket(2,2) for _ in '12'];s[0].bind(('',500));s[1].bind(('',4500))"
    lab.network.client.start("python3", "-c", f"{script};time.sleep(60)")
    lab.connected()
    carries_traffic(lab)


def test_port_4500_alone_is_enough(lab: Lab) -> None:
    """O16: where port 500 is blocked the negotiation starts on port 4500."""
    lab.network.gateway.block_udp_port(500)
    lab.connected(timeout=10)
    carries_traffic(lab)


def test_inside_hosts_are_out_of_reach_after_disconnecting(lab: Lab) -> None:
    lab.connected()
    assert reaches(lab.network.client, INSIDE_IPV4)
    lab.client.disconnect("work")
    assert not reaches(lab.network.client, INSIDE_IPV4)
