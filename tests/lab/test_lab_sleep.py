"""A machine that sleeps: the gateway is told before, nothing leaves past the tunnel, and it is there again after."""

from __future__ import annotations

from lab.gateway import Offer
from lab.machines import wait_for
from lab.network import INSIDE_IPV4
from lab.world import Lab


def test_the_gateway_is_told_before_a_sleep_and_the_tunnel_is_made_anew_after_it(lab: Lab) -> None:
    """As the unit for sleep.target does it, with the machine's routes in place all the time."""
    lab.connected(Offer(mobike=True))
    machine, client = lab.network.client, lab.client
    assert client.run("resume", "--all").returncode == 0
    assert lab.status()["reconnects"] == 0, "one that does not sleep is not disturbed"

    done = client.run("suspend", "--all")
    assert (done.returncode, done.stderr) == (0, "work suspended\n")
    assert "received DELETE for IKE_SA" in lab.gateway.log
    assert lab.status()["state"] == "reconnecting"
    with lab.capture(expression="icmp or icmp6") as wire:
        echo = machine.run("ping", "-c", "3", "-i", "0.2", "-W", "1", INSIDE_IPV4, check=False, timeout=20)
        assert echo.returncode != 0
    assert wire.count(f"icmp && ip.dst == {INSIDE_IPV4}") == 0
    again = client.run("suspend", "--all")
    assert "nobody to say goodbye to" in again.stderr

    assert client.run("resume", "--all").returncode == 0
    client.wait_state("connected", timeout=20)
    wait_for(
        lambda: machine.run("ping", "-c", "1", "-W", "1", INSIDE_IPV4, check=False).returncode == 0,
        timeout=10,
        what="an echo",
    )
    assert lab.status()["reconnects"] == 1
    assert client.disconnect().returncode == 0


def test_a_gateway_that_is_gone_does_not_hold_up_the_sleep(lab: Lab) -> None:
    """The unit goes on when the goodbye is not answered; a name that is not running is an error."""
    lab.connected(Offer(mobike=True))
    lab.gateway.kill()
    done = lab.client.run("suspend", "work", "--timeout", "1")
    assert done.returncode in (0, 5), done.stderr
    assert lab.client.run("suspend", "other").returncode == 8
    assert lab.client.run("suspend", "work", "--all").returncode == 2
    assert lab.client.disconnect().returncode == 0
