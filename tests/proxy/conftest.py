"""Fixtures of the proxy tests; what they are made of is in `proxy_world`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from proxy.proxy_world import a_server, echo


@pytest.fixture
def echo_port() -> Iterator[int]:
    """The port of a server that sends back what comes."""
    with a_server(echo) as port:
        yield port
