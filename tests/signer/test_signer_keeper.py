"""The process that has signatures made for a tunnel: tokens that come and go, wrong PINs, modules that hang."""

from __future__ import annotations

import asyncio
import os
import select
import socket
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from soft_token import MODULE, PIN, Key, SoftToken

from ikeclient.crypto.sign.remote_key import RemoteKey, SignatureRequest
from ikeclient.crypto.sign.schemes import SCHEME_NAMES, Family
from ikeclient.crypto.sign.signature import PublicKey
from ikeclient.errors import KeyUnavailable
from ikeclient.signer.keeper import Keeper
from ikeclient.signer.messages import Look, Refused, Sign, Signed, TokenKey, pack_reference
from ikeclient.signer.start import signer
from ikeclient.signer.worker import WorkerGone, worker

OCTETS = b"what is signed"


@pytest.fixture
def own_token(tmp_path: Path, keys: dict[str, Key], monkeypatch: pytest.MonkeyPatch) -> SoftToken:
    """A token of this test alone."""
    found = SoftToken(tmp_path / "own", "mine")
    found.add_key(keys["ec"], "ec")
    for name, value in found.variables.items():
        monkeypatch.setenv(name, value)
    return found


def request(keys: dict[str, Key], *, token: str = "mine", pin: str = PIN, number: int = 1) -> Sign:
    reference = TokenKey(module=str(MODULE), uri=f"pkcs11:token={token};object=ec", pin=pin.encode())
    public = PublicKey(keys["ec"].public_key())
    return Sign(
        number=number,
        reference=pack_reference(reference),
        octets=OCTETS,
        schemes=(SCHEME_NAMES["ecdsa-sha256"],),
        public_key=public.spki,
    )


def test_a_token_that_is_pulled_out_and_put_back(own_token: SoftToken, keys: dict[str, Key]) -> None:
    """Without it the error names it, and with it there is a signature again, with the same PIN."""
    keeper = Keeper()
    try:
        assert isinstance(keeper.use(request(keys)), Signed)
        own_token.pull_out()
        for _ in range(2):
            refused = keeper.use(request(keys))
            assert isinstance(refused, Refused)
            assert not refused.pin
            assert "'mine'" in refused.failure.message
        own_token.put_back()
        again = keeper.use(request(keys))
        assert isinstance(again, Signed)
        PublicKey(keys["ec"].public_key()).check(again.scheme, again.signature, OCTETS)
    finally:
        keeper.close()


def test_a_refused_pin_is_never_tried_again(own_token: SoftToken, keys: dict[str, Key]) -> None:
    """Not even when it would be right by now: every try counts."""
    keeper = Keeper()
    try:
        first = keeper.use(request(keys, pin="654321"))
        assert isinstance(first, Refused)
        assert first.pin
        own_token.change_pin("654321")
        second = keeper.use(request(keys, pin="654321", number=2))
        assert isinstance(second, Refused)
        assert (second.number, second.pin, second.failure) == (2, True, first.failure)
        assert not keeper._workers
    finally:
        keeper.close()


def on_the_token(keys: dict[str, Key], token: str) -> SignatureRequest:
    sign = request(keys, token=token)
    key = RemoteKey(
        public_key=PublicKey(keys["ec"].public_key()),
        families=(Family.ECDSA,),
        place="token 'work'",
        reference=sign.reference,
    )
    return SignatureRequest(key=key, octets=OCTETS, schemes=sign.schemes)


def test_a_tunnel_has_signatures_made(token: SoftToken, keys: dict[str, Key]) -> None:
    """Several at once come one after the other, and one that is given up does not disturb the next."""
    with signer(wanted=True) as client:
        assert client is not None

        async def scenario() -> None:
            wanted = on_the_token(keys, "work")
            given_up = asyncio.create_task(client.sign(wanted))
            await asyncio.sleep(0)
            await asyncio.sleep(0.01)
            given_up.cancel()
            for made in await asyncio.gather(client.sign(wanted), client.sign(wanted)):
                wanted.key.public_key.check(made.scheme, made.data, OCTETS)
            with pytest.raises(KeyUnavailable, match="no token"):
                await client.sign(on_the_token(keys, "elsewhere"))
            client.close()

        asyncio.run(scenario())


def test_no_process_without_need() -> None:
    with signer(wanted=False) as client:
        assert client is None


HANGING = "#include <unistd.h>\nint C_GetFunctionList(void **list) { for (;;) pause(); }\n"
CRASHING = "int C_GetFunctionList(void **list) { *(volatile int *)0 = 1; return 0; }\n"


def module(directory: Path, source: str) -> Path:
    path = directory / "module.so"
    (directory / "module.c").write_text(source)
    compiler = sysconfig.get_config_var("CC").split()[0]
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(path), str(directory / "module.c")], check=True)
    return path


def foreign(path: Path) -> Sign:
    public = PublicKey(ec.generate_private_key(ec.SECP256R1()).public_key())
    return Sign(
        number=3,
        reference=pack_reference(TokenKey(module=str(path), uri="pkcs11:")),
        octets=OCTETS,
        schemes=(SCHEME_NAMES["ecdsa-sha256"],),
        public_key=public.spki,
    )


def test_a_module_that_crashes_takes_nobody_along(tmp_path: Path) -> None:
    keeper = Keeper()
    refused = keeper.use(foreign(module(tmp_path, CRASHING)))
    assert isinstance(refused, Refused)
    assert refused.number == 3
    assert "ended unexpectedly" in str(refused.failure.reason)
    assert not keeper._workers


def test_the_end_of_the_tunnel_ends_a_module_that_hangs(tmp_path: Path) -> None:
    """Nobody waits for a touch that nobody needs any more."""
    ours, theirs = socket.socketpair()
    keeper = Keeper(theirs)
    ours.close()
    began = time.monotonic()
    refused = keeper.use(foreign(module(tmp_path, HANGING)))
    assert isinstance(refused, Refused)
    assert "the tunnel has ended" in str(refused.failure.reason)
    assert time.monotonic() - began < 50  # the limit of an answer is 60 seconds
    theirs.close()
    assert not keeper._workers


def test_a_process_dies_with_who_forked_it(tmp_path: Path) -> None:
    """Also with a module that hangs, and also when that is killed."""
    path = module(tmp_path, HANGING)
    program = (
        "import sys, os, time\n"
        "from ikeclient.signer.worker import Worker\n"
        "found = Worker(None)\n"
        "print(found._pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    pid = int(owner.stdout.readline())
    assert Path(f"/proc/{pid}").exists()
    descriptor = os.pidfd_open(pid)
    owner.kill()
    owner.wait()
    owner.stdout.close()
    assert select.select([descriptor], [], [], 30)[0], "it is still there"
    os.close(descriptor)


def test_a_worker_is_asked_in_time(tmp_path: Path) -> None:
    with worker(None) as process, pytest.raises(WorkerGone, match="in time"):
        process.ask(Look(reference=foreign(module(tmp_path, HANGING)).reference), timeout=0.3)
