"""Everything that reads what others wrote: one line each. Another target is another line.

`Target` takes the seeds and what reads them; `generated` takes a function of random numbers, for whole conversations.
"""

from __future__ import annotations

from typing import Any

from fuzz import certificates, eap, files, ike, machine, packets, stack_host, stack_tcp
from fuzz.damage import chained, damaged, lines_of_text, packetwise, reshaped_der, reshaped_json
from fuzz.target import QUICK, WHOLE, Target, generated
from ikeclient.eap.sim_attributes import Malformed
from ikeclient.net.transport.http import HttpError
from ikeclient.profile.formats import ImportFormat

_text = lines_of_text(files.WORDS)
_texts: dict[str, Any] = {"mutate": _text, "limit": 10 * QUICK}
_json: dict[str, Any] = {"mutate": reshaped_json, "errors": (ValueError,)}
_der: dict[str, Any] = {"mutate": reshaped_der}
_IMPORTS = tuple(kind for kind in ImportFormat if files.foreign(kind))

_TABLE: tuple[Target, ...] = (
    # What anybody may send, and a gateway
    Target(name="message", check=packets.read_message, seeds=packets.messages, mutate=chained),
    Target(name="eap", check=packets.read_eap, seeds=packets.eap_packets),
    Target(name="eap login", check=eap.converse, seeds=eap.conversations, mutate=eap.damaged_conversation, limit=WHOLE),
    Target(name="eap card", check=eap.read_attributes, seeds=eap.card_messages, errors=(Malformed,)),
    Target(name="eap avp", check=eap.read_avps, seeds=eap.inside_tls),
    Target(name="eap tlv", check=eap.read_tlvs, seeds=eap.inside_tls),
    generated("eap fragments", eap.fragments),
    generated("eap cards", eap.card_attributes),
    generated("eap tunnel", eap.tunnel),
    generated("envelope", ike.envelope),
    generated("configuration", ike.configuration),
    generated("selectors", ike.selectors),
    generated("initiator", ike.initiator),
    generated("established", ike.established),
    # Certificates
    Target(name="certificate", check=certificates.read_certificate, seeds=certificates.seeds, **_der),
    Target(name="crl", check=certificates.read_list, seeds=lambda: certificates.revocation_seeds()[0], **_der),
    Target(name="ocsp", check=certificates.read_response, seeds=lambda: certificates.revocation_seeds()[1], **_der),
    Target(name="name", check=certificates.read_name, seeds=certificates.names, **_der),
    Target(
        name="identity", check=certificates.read_identity, seeds=lambda: certificates.IDENTITIES, errors=(ValueError,)
    ),
    Target(name="scheme", check=certificates.read_scheme, seeds=lambda: certificates.ALGORITHMS, **_der),
    Target(name="authorities", check=certificates.read_pem, seeds=certificates.pems, limit=10 * QUICK),
    generated("path", certificates.certificate),
    generated("signature", certificates.signature),
    generated("revocation", certificates.revocation),
    generated("bundles", certificates.bundles),
    generated("identities", certificates.identity),
    # Packets
    Target(name="inner", check=packets.read_inner, seeds=packets.inner_packets, errors=()),
    Target(name="twins", check=packets.twins, seeds=packets.plaintexts, mutate=packetwise(damaged), errors=()),
    generated("esp", packets.esp),
    generated("offload", packets.offloaded),
    generated("stack tcp", stack_tcp.stack_tcp),
    generated("stack host", stack_host.host),
    Target(name="stack dns", check=stack_host.read_dns, seeds=stack_host.dns_answers),
    # Clients of the proxy
    Target(name="socks", check=packets.read_socks, seeds=lambda: packets.SOCKS),
    Target(name="http", check=packets.read_http, seeds=packets.http_requests),
    Target(name="places", check=packets.read_place, seeds=lambda: packets.PLACES, limit=WHOLE),
    # Files of people
    Target(name="profile", check=files.read_profile, seeds=files.profiles, **_texts),
    *(
        Target(name=f"import {kind}", check=files.read_as(kind), seeds=lambda kind=kind: files.foreign(kind), **_texts)
        for kind in _IMPORTS
    ),
    Target(name="import zip", check=files.read_archive, seeds=files.archives, limit=10 * QUICK),
    Target(name="secrets", check=files.read_secrets, seeds=files.secrets, **_texts),
    # Other programs, servers and the kernel
    Target(name="control", check=files.read_control, seeds=lambda: files.CONTROL),
    Target(name="status", check=machine.read_reply, seeds=machine.replies, mutate=reshaped_json),
    Target(name="dns", check=machine.read_dns, seeds=machine.dns_answers),
    Target(name="http answer", check=machine.read_http, seeds=lambda: machine.HTTP, errors=machine.HTTP_ERRORS),
    Target(name="url", check=machine.read_url, seeds=lambda: machine.URLS, errors=(HttpError,)),
    Target(name="agent", check=machine.read_agent, seeds=machine.agent_answers, mutate=packetwise(damaged)),
    Target(name="card", check=machine.read_card, seeds=lambda: machine.CARD),
    Target(name="token", check=machine.read_token, seeds=lambda: machine.TOKENS, errors=(ValueError,)),
    Target(name="text", check=machine.read_text, seeds=lambda: [b"hello \x1b[31m\xff\xe2\x80\xae"]),
    Target(name="netlink", check=machine.read_netlink, seeds=machine.netlink_messages, errors=()),
    Target(name="icmp", check=machine.read_icmp, seeds=lambda: machine.ERRORS, errors=()),
    Target(name="resolver", check=machine.read_resolver, seeds=lambda: [machine.RESOLVER]),
    Target(name="hosts", check=machine.read_hosts, seeds=lambda: [machine.HOSTS]),
    # Our own files and processes
    Target(name="journal", check=machine.read_journal, seeds=machine.journals, **_json),
    Target(name="block", check=machine.read_block, seeds=machine.blocks, mutate=reshaped_json),
    Target(name="frames", check=machine.read_frames, seeds=lambda: machine.FRAMES, errors=(ValueError,)),
    *(
        Target(name=name, check=check, seeds=lambda seeds=seeds: seeds, **_json)
        for name, (seeds, check) in machine.typed().items()
    ),
)
TARGETS: dict[str, Target] = {target.name: target for target in _TABLE}
