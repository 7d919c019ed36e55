"""The gateway's side of EAP for these tests: packets made by hand, and one recorded conversation."""

from collections.abc import Callable, Sequence

from ikeclient.eap.methods import mschap
from ikeclient.eap.peer import EapPeer
from ikeclient.wire.eap import EapPacket
from ikeclient.wire.registry import EapCode, EapType

USER, PASSWORD = "alice", "wonderland"

SUCCESS = bytes.fromhex("03090004")
FAILURE = bytes.fromhex("04090004")

# strongSwan 5.9.8 as gateway and as client over IKEv2, user alice, password wonderland: what went each way, and the
# MSK as both of them logged it.
RECORDED_REQUESTS = [
    "0100000501",
    "018900241a0189001f1039287b88b93b2ae93c1b169bd897ec7f7374726f6e675377616e",
    "018a00491a03890044533d303845304246463933303943393336323931303731353236353031454642413942"
    "3534423932414620"
    "4d3d57656c636f6d65327374726f6e675377616e00",
    "038a0004",
]
RECORDED_RESPONSES = [
    "0200000a01616c696365",
    "028900401a0289003b317a218a778fab39cf7ce03642936e67330000000000000000"
    "47a81bcee9265ea61daef5502b1f81f854bbbf8290a8e57600616c696365",
    "028a00061a03",
]
RECORDED_PEER_CHALLENGE = bytes.fromhex("7a218a778fab39cf7ce03642936e6733")
RECORDED_MSK = bytes.fromhex("e585ad7e3cb25f1d2f9b321a3289e060a95470b383d95e0d8b0ce63e9e533b7d") + bytes(32)

GATEWAY_CHALLENGE = bytes(range(16))


def request(type_: int, data: bytes = b"", identifier: int = 1) -> bytes:
    return EapPacket(code=EapCode.REQUEST, identifier=identifier, type=EapType(type_), data=data).emit()


def mschap_request(opcode: int, body: bytes, identifier: int = 1, mschap_id: int = 7) -> bytes:
    return request(EapType.MSCHAPV2, mschap_data(opcode, body, mschap_id), identifier)


def mschap_data(opcode: int, body: bytes, mschap_id: int = 7) -> bytes:
    return bytes([opcode, mschap_id]) + (4 + len(body)).to_bytes(2, "big") + body


def challenge_data(name: bytes = b"gw") -> bytes:
    return mschap_data(1, b"\x10" + GATEWAY_CHALLENGE + name)


def challenge(identifier: int = 1) -> bytes:
    return request(EapType.MSCHAPV2, challenge_data(), identifier)


def proof(response: bytes, password: str = PASSWORD, user: bytes = USER.encode()) -> bytes:
    """`S=...` for the type data of an EAP-MSCHAPv2 Response."""
    peer_challenge, nt_response = response[5:21], response[29:53]
    digest = mschap.authenticator_response(
        mschap.challenge_hash(peer_challenge, GATEWAY_CHALLENGE, user), mschap.nt_password_hash(password), nt_response
    )
    return b"S=" + digest.hex().upper().encode()


def fixed_entropy(value: bytes) -> Callable[[int], bytes]:
    def entropy(count: int) -> bytes:
        assert count == len(value)
        return value

    return entropy


def entropy(count: int) -> bytes:
    return bytes(range(100, 100 + count))


MSCHAPV2 = (EapType.MSCHAPV2,)


def peer(methods: Sequence[EapType] = MSCHAPV2, password: str | None = PASSWORD) -> EapPeer:
    """The peer of user alice, who knows the password."""
    return EapPeer(USER, methods, password, entropy)


def answer(eap: EapPeer, packet: bytes) -> EapPacket:
    """Give a request to the peer and return its response."""
    response = eap.respond(packet)
    assert isinstance(response, bytes)
    parsed = EapPacket.parse(response)
    assert parsed.code == EapCode.RESPONSE
    assert parsed.identifier == packet[1]
    return parsed
