"""Every ESP suite, with and without extended sequence numbers, for tests of what a suite decides."""

from __future__ import annotations

import pytest

from ikeclient.crypto.algorithms.transforms import ENCRYPTION, INTEGRITY, EspSuite

SUITES = [
    EspSuite(encryption=e, integrity=None if e.aead else i, esn=esn)
    for e in ENCRYPTION.values()
    for i in list(INTEGRITY.values())[: 1 if e.aead else None]
    for esn in (False, True)
]
every_suite = pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
