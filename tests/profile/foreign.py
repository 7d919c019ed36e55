"""Profiles of other clients, as they are found in the wild, with names and addresses of the documentation ranges."""

from __future__ import annotations

import base64
import json
import plistlib
from typing import Any

from profile_world import CANARY, Owner


def mobileconfig(ike: dict[str, Any], *payloads: dict[str, Any], **vpn: Any) -> bytes:
    """A configuration profile with one VPN."""
    content = {
        "PayloadType": "com.apple.vpn.managed",
        "PayloadUUID": "vpn",
        "UserDefinedName": "Example VPN",
        "VPNType": "IKEv2",
        "IKEv2": {"RemoteAddress": "vpn.example.com", "RemoteIdentifier": "vpn.example.com", **ike},
        **vpn,
    }
    return plistlib.dumps({"PayloadType": "Configuration", "PayloadContent": [content, *payloads]})


def apple_psk() -> bytes:
    """Shared secret, algorithms named."""
    return mobileconfig(
        {
            "LocalIdentifier": "alice@example.com",
            "AuthenticationMethod": "SharedSecret",
            "SharedSecret": CANARY,
            "DeadPeerDetectionRate": "Medium",
            "DisableMOBIKE": 1,
            "EnablePFS": True,
            "IKESecurityAssociationParameters": {
                "EncryptionAlgorithm": "AES-256-GCM",
                "IntegrityAlgorithm": "SHA2-384",
                "DiffieHellmanGroup": 20,
                "LifeTimeInMinutes": 1440,
            },
            "ChildSecurityAssociationParameters": {
                "EncryptionAlgorithm": "AES-256",
                "IntegrityAlgorithm": "SHA2-256",
                "DiffieHellmanGroup": 19,
            },
            "OnDemandEnabled": 1,
        },
        IPv4={"OverridePrimary": 1},
        Proxies={"HTTPEnable": 0},
    )


def apple_certificate(authority: Owner, alice: Owner) -> bytes:
    """A certificate as PKCS#12 with its passphrase, and the authority."""
    root = {"PayloadType": "com.apple.security.root", "PayloadUUID": "ca", "PayloadContent": authority.pem()}
    own = {
        "PayloadType": "com.apple.security.pkcs12",
        "PayloadUUID": "own",
        "PayloadContent": alice.pkcs12(CANARY.encode()),
        "Password": CANARY,
    }
    ike = {"AuthenticationMethod": "Certificate", "PayloadCertificateUUID": "own", "LocalIdentifier": "alice.example"}
    return mobileconfig(ike, root, own)


def sswan(authority: Owner, **changes: Any) -> bytes:
    """EAP with split tunnelling and an authority."""
    der = base64.b64encode(base64.b64decode(b"".join(authority.pem().splitlines()[1:-1]))).decode()
    document = {
        "uuid": "7b81b3a7-1c0c-4ca6-9e1b-1c1b3a7b81b3",
        "name": "Corp \U0001f512 VPN",
        "type": "ikev2-eap",
        "remote": {"addr": "vpn.example.com", "id": "gw.example.com", "cert": der, "port": 4500},
        "local": {"eap_id": "alice", "id": "alice@example.com"},
        "ike-proposal": "aes256-sha256-modp2048,aes256gcm16-prfsha384-ecp384,3des-sha1-modp1024",
        "mtu": 1300,
        "dns-servers": "192.0.2.53",
        "split-tunneling": {
            "subnets": ["10.0.0.0/8", "2001:db8::/32"],
            "excluded": ["10.9.0.0/16"],
            "block-ipv6": True,
        },
    }
    return json.dumps({**document, **changes}).encode()


SWANCTL = f"""\
# a client's configuration
connections {{
  base-defaults {{
    remote_addrs = ignored.example.com
  }}
  work : connections.base-defaults {{
    remote_addrs = vpn.example.com, 192.0.2.1   # two
    vips = 0.0.0.0,::
    proposals = aes256gcm16-prfsha384-ecp384,default
    dpd_delay = 2m
    rekey_time = 8h
    keyingtries = 0
    reauth_time = 1d
    local {{ auth = eap-mschapv2
      eap_id = alice
      id = "alice@example.com"
    }}
    remote {{
      id = gw.example.com
      cacerts = corp.pem
    }}
    children {{
      net {{
        remote_ts = 10.0.0.0/8,192.168.7.0/24
        esp_proposals = aes256gcm16-ecp384
        updown = /usr/lib/ipsec/_updown iptables
      }}
    }}
  }}
}}
secrets {{
  eap-other {{
    id = bob
    secret = nobody
  }}
  eap-alice {{
    id = alice
    secret = "{CANARY} # not a \\"comment\\""
  }}
}}
include conf.d/*.conf
"""

IPSEC = """\
config setup
    charondebug="ike 1"

conn %default
    keyexchange=ikev2
    dpddelay=40s

conn base
    ike=aes256gcm16-prfsha384-ecp384!
    rightid="gw.example.com"
    also=work           # a circle does no harm

conn work
    also=base
    left=%defaultroute
    leftsourceip=%config
    leftauth=eap-mschapv2
    eap_identity=alice
    right=vpn.example.com
    rightauth=pubkey
    rightsubnet=10.0.0.0/8,192.168.7.0/24
    esp=aes256gcm16!
    leftupdown=/bin/something
    xauth_identity=alice
    auto=start
"""
