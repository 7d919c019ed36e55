"""A tunnel that ends in the process that uses it: an ordinary user, no TUN device, no namespace, no right at all."""

from __future__ import annotations

import signal

import pytest
from lab.gateway import Offer
from lab.machines import wait_for
from lab.network import INSIDE_DNS, INSIDE_IPV4, INSIDE_IPV6, INTERNET_IPV4, Topology
from lab.servers import DOMAIN
from lab.stack_users import using
from lab.world import Lab, MakeLab


@pytest.fixture(scope="module")
def lab(module_lab: Lab) -> Lab:
    """The module's."""
    return module_lab


def test_an_ordinary_user_without_a_device_has_everything_that_a_tunnel_carries(lab: Lab) -> None:
    """TCP, UDP, ICMP and names, over both families and of any length; the machine is as before."""
    before = lab.client.traces()
    with using(lab) as (user, person):
        for name in (f"host.{DOMAIN}", "host", INSIDE_IPV6):
            assert user.ask("get", name, "/blob")["sha256"] == lab.servers.sha256
        assert user.ask("get", INSIDE_IPV4, "/peer")["text"] == "10.88.0.1"
        assert user.ask("get", INSIDE_IPV6, "/peer")["text"] == "fd88::1"
        assert user.ask("resolve", f"host.{DOMAIN}") == ["fd99::1", "10.99.0.1"]
        assert isinstance(user.ask("resolve", "nothing.example."), OSError)
        for address in (INSIDE_IPV4, INSIDE_IPV6):
            assert user.ask("put", address, 8 << 20)["same"]
            for size in (100, 1300, 3000):
                assert user.ask("udp", address, size) is True
                assert user.ask("ping", address, size) is True
        refused = user.ask("get", INTERNET_IPV4, "/peer")
        assert isinstance(refused, OSError)
        assert "does not lead there" in str(refused)
        status = person.status()
        assert status is not None
        assert (status["mode"], status["interface"], status["state"]) == ("stack", None, "connected")
        assert status["addresses"] == ["10.88.0.1/32", "fd88::1/128"]
        assert status["dns"]["servers"] == [INSIDE_DNS]
        assert status["offload"]["fast"]
        assert not any(status["drops"].values())
        assert lab.client.traces() == before
    wait_for(lambda: lab.gateway.list_sas() == [], timeout=10, what="the gateway to forget us")


@pytest.mark.extended
def test_another_inner_address_resets_connections_and_new_ones_work(lab: Lab) -> None:
    with using(lab) as (user, person):
        upload = user.begin("put", INSIDE_IPV4, 4 << 20, 60.0)
        assert user.ask("get", INSIDE_IPV4, "/peer")["text"] == "10.88.0.1"
        lab.gateway.serve(Offer(dns=(INSIDE_DNS,), domains=(DOMAIN,), pool_ipv4="10.87.0.0/24"))
        assert person.run("reconnect", "work").returncode == 0
        user.wait("connected", 2)
        ended = user.result(upload)
        assert isinstance(ended, OSError)
        assert "local address is gone" in str(ended)
        assert user.ask("get", INSIDE_IPV4, "/peer")["text"] == "10.87.0.1"


@pytest.mark.extended
def test_where_runs_cannot_be_carried_packets_are_one_by_one(lab: Lab) -> None:
    with using(lab, session={"offload": "off"}) as (user, person):
        assert user.ask("get", INSIDE_IPV4, "/blob")["sha256"] == lab.servers.sha256
        assert user.ask("put", INSIDE_IPV6, 1 << 20)["same"]
        assert user.ask("udp", INSIDE_IPV4, 3000) is True
        status = person.status()
        assert status is not None
        assert not status["offload"]["fast"]


@pytest.mark.extended
def test_a_path_that_gets_narrower_is_met_with_shorter_segments(lab: Lab) -> None:
    with using(lab) as (user, person):
        upload = user.begin("put", INSIDE_IPV4, 4 << 20, 8.0)
        assert user.ask("get", INSIDE_IPV4, "/blob")["sha256"] == lab.servers.sha256
        lab.network.set_path_mtu(1340)
        assert user.ask("get", INSIDE_IPV4, "/blob")["sha256"] == lab.servers.sha256
        assert user.result(upload)["same"]

        def narrow() -> bool:
            status = person.status()
            return status is not None and status["mtu"] < 1300

        wait_for(narrow, timeout=20, what="the MTU to follow", interval=0.3)


@pytest.mark.waits
def test_connections_live_through_rekeys_moves_reloads_and_reconnects(lab: Lab) -> None:
    """One upload and one idle connection meanwhile; the gateway gives the same address again."""
    lab.network.add_second_path()
    session = {"rekey_child": 10, "rekey_ike": 14}
    with using(lab, session=session) as (user, person):
        upload = user.begin("put", INSIDE_IPV4, 4 << 20, 4.0)
        lab.gateway.rekey(child="net")
        lab.gateway.rekey(ike="rw")
        lab.network.use_second_path()
        user.wait("roamed")
        lab.network.use_first_path()
        user.wait("roamed", 2)
        person.write_profile({"session": session, "network": {"mtu": 1290}})
        user.process.send_signal(signal.SIGHUP)
        user.wait("reloaded")
        assert person.run("reconnect", "work").returncode == 0
        user.wait("connected", 2)
        assert user.result(upload)["same"]
        status = person.status()
        assert status is not None
        assert status["roams"] >= 2
        assert status["mtu"] == 1290


@pytest.mark.extended
@pytest.mark.parametrize("loss", [0.01, 0.05])
def test_bytes_arrive_over_a_bad_cable(make_lab: MakeLab, loss: float) -> None:
    lab = make_lab(Topology(impaired=True))
    with using(lab) as (user, _):
        assert lab.network.relay is not None
        lab.network.relay.impair(loss=loss, delay=0.01)
        assert user.ask("put", INSIDE_IPV4, 4 << 20)["same"]
        for _ in range(4):
            assert user.ask("get", INSIDE_IPV4, "/blob")["sha256"] == lab.servers.sha256
