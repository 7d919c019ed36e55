from __future__ import annotations

import socket

import pytest

from ikeclient.net.transport import sockaddr


@pytest.mark.parametrize(
    "address",
    [("192.0.2.7", 4500), ("0.0.0.0", 65535), ("2001:db8::7", 500, 0, 0), ("fe80::1", 4500, 0x12345, 7)],
)
def test_an_address_survives_the_way_through_the_kernels_form(address: sockaddr.Address) -> None:
    name = sockaddr.pack(address)
    assert sockaddr.unpack(name.ljust(sockaddr.LENGTH, b"\0")) == address


def test_without_flow_label_and_scope_there_is_none() -> None:
    assert sockaddr.unpack(sockaddr.pack(("::1", 9))) == ("::1", 9, 0, 0)


@pytest.mark.parametrize("host", ["fe80::1%lo", "gateway.example", "", "1.2.3"])
def test_what_is_more_than_numbers_is_left_to_the_socket_module(host: str) -> None:
    assert sockaddr.pack((host, 4500)) == b""


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_the_kernel_reads_it_so(family: socket.AddressFamily, host: str) -> None:
    """The families are those of the kernel's headers: a socket would refuse any other."""
    name = sockaddr.pack((host, 80))
    assert int.from_bytes(name[:2], "little" if name[1] == 0 else "big") == family
    assert name[2:4] == b"\0P"
    assert len(name) == (16 if family == socket.AF_INET else sockaddr.LENGTH)
