"""What readers of the documents have: a gateway of their own, the files that the pages name, and a clone."""

from __future__ import annotations

import base64
import io
import zipfile
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12
from lab.booted import BootedMachine
from lab.gateway import PASSWORD, Offer
from lab.network import INSIDE_DNS, INTERNET_DNS
from lab.pki import Credential, Pki
from lab.servers import DOMAIN

GATEWAY, IDENTITY = "vpn.example.com", "alice@example.com"
AUTHORITY = "corp-ca.pem"
REPORT = "the report, of which nobody outside knows\n"
HOMES = {"root": "/root", "alice": "/home/alice"}

MOBILECONFIG = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0"><dict>
<key>PayloadType</key><string>Configuration</string>
<key>PayloadVersion</key><integer>1</integer>
<key>PayloadIdentifier</key><string>com.example.office</string>
<key>PayloadUUID</key><string>7B0C2A5E-3C0B-4F31-9D43-9A1B5D3A7C10</string>
<key>PayloadDisplayName</key><string>office</string>
<key>PayloadContent</key><array>
<dict>
<key>PayloadType</key><string>com.apple.security.root</string>
<key>PayloadVersion</key><integer>1</integer>
<key>PayloadIdentifier</key><string>com.example.office.ca</string>
<key>PayloadUUID</key><string>0D5D0B0C-6F7C-4B83-8E52-2C6C6E7C9E11</string>
<key>PayloadContent</key><data>{authority}</data>
</dict>
<dict>
<key>PayloadType</key><string>com.apple.vpn.managed</string>
<key>PayloadVersion</key><integer>1</integer>
<key>PayloadIdentifier</key><string>com.example.office.vpn</string>
<key>PayloadUUID</key><string>5E4B9A0C-91E2-4C57-8A51-51D2D4B6A6C2</string>
<key>UserDefinedName</key><string>office</string>
<key>VPNType</key><string>IKEv2</string>
<key>IKEv2</key><dict>
<key>RemoteAddress</key><string>vpn.example.com</string>
<key>RemoteIdentifier</key><string>vpn.example.com</string>
<key>LocalIdentifier</key><string>alice@example.com</string>
<key>AuthenticationMethod</key><string>None</string>
<key>ExtendedAuthEnabled</key><integer>1</integer>
<key>AuthName</key><string>alice@example.com</string>
<key>AuthPassword</key><string>{password}</string>
</dict>
</dict>
</array>
</dict></plist>
"""

SWANCTL = """connections {
  branch {
    version = 2
    remote_addrs = vpn.example.com
    vips = 0.0.0.0, ::
    local {
      auth = eap-mschapv2
      id = alice@example.com
      eap_id = alice@example.com
    }
    remote {
      auth = pubkey
      id = vpn.example.com
      cacerts = corp-ca.pem
    }
    children {
      net {
        remote_ts = 10.99.0.0/24
      }
    }
  }
}
secrets {
  eap-alice {
    id = alice@example.com
    secret = "PASSWORD"
  }
}
""".replace("PASSWORD", PASSWORD)

SSWAN = """{
 "uuid": "559eb893-1cee-4196-8b97-67045e029e91",
 "name": "Phone",
 "type": "ikev2-eap",
 "remote": { "addr": "vpn.example.com", "id": "vpn.example.com" },
 "local": { "eap_id": "alice@example.com" }
}
"""

AZURE = """<?xml version="1.0" encoding="utf-8"?>
<VpnProfile>
  <VpnServer>vpn.example.com</VpnServer>
  <VpnType>IkeV2,OpenVPN</VpnType>
  <CaCert>VpnServerRoot</CaCert>
  <Routes>10.99.0.0/24</Routes>
  <Auth>EAPTLS</Auth>
</VpnProfile>
"""

IPSEC = """conn site
  keyexchange=ikev2
  left=%defaultroute
  leftsourceip=%config
  leftauth=eap-mschapv2
  leftid=alice@example.com
  eap_identity=alice@example.com
  right=vpn.example.com
  rightauth=pubkey
  rightid=@vpn.example.com
  rightsubnet=10.99.0.0/24
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bookshelf:
    """The reader's gateway and files, made with the certificates of this run."""

    pki: Pki

    @property
    def offer(self) -> Offer:
        """The gateway of the README's profile."""
        certificate = self.pki.issue("gateway-reader", "gateway", "ecdsa256", names=[x509.DNSName(GATEWAY)])
        return Offer(
            auth="eap-mschapv2",
            gateway_certificate=certificate,
            gateway_identity=GATEWAY,
            unique="never",
            dns=(INSIDE_DNS,),
            domains=(DOMAIN,),
            secrets={
                f"eap-{number}": {"id": identity, "secret": f'"{PASSWORD}"'}
                for number, identity in enumerate((IDENTITY, "ci@example.com"))
            },
        )

    @property
    def web_certificate(self) -> Credential:
        """What the web servers of the pages show."""
        names = [x509.DNSName("*.corp.example"), x509.DNSName("intranet.example.com")]
        return self.pki.issue("web-reader", "gateway", "ecdsa256", names=names)

    @property
    def authority(self) -> str:
        """The certificate authority of the reader's company."""
        return self.pki.authority("ecdsa").certificate_file.read_text()

    def p12(self) -> bytes:
        """Alice's certificate with its key, without a passphrase."""
        names = [x509.RFC822Name(IDENTITY)]
        own = self.pki.issue("client-reader", "client", "ecdsa256", names=names)
        above = [self.pki.authority("ecdsa").certificate]
        return pkcs12.serialize_key_and_certificates(
            b"alice", own.key, own.certificate, above, serialization.NoEncryption()
        )

    def azure(self) -> bytes:
        """The archive that Azure's portal gives."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("Generic/VpnSettings.xml", AZURE)
            archive.writestr("Generic/VpnServerRoot.cer_0", self.authority)
        return buffer.getvalue()

    def mobileconfig(self) -> str:
        """The file that Apple's devices take."""
        der = self.pki.authority("ecdsa").certificate.public_bytes(serialization.Encoding.DER)
        return MOBILECONFIG.format(authority=base64.b64encode(der).decode(), password=PASSWORD)

    def machine_files(self) -> dict[str, str]:
        """What is on the machine before it boots."""
        authority = "etc/ssl/certs/ca-certificates.crt"
        return {
            "/etc/systemd/resolved.conf.d/lab.conf": f"[Resolve]\nDNS={INTERNET_DNS}\nDNSSEC=no\n",
            "/etc/sudoers.d/alice": "alice ALL=(ALL) NOPASSWD: ALL\n",
            f"/{authority}": self.authority,
        }

    def give_files(self, machine: BootedMachine) -> None:
        """Put the files that the recipes name where a reader has them."""
        for user, home in HOMES.items():
            put(machine, f"{home}/office.mobileconfig", self.mobileconfig(), owner=user)
            put(machine, f"{home}/azure-p2s.zip", self.azure(), owner=user)
            put(machine, f"{home}/alice.p12", self.p12(), owner=user)
        put(machine, "/etc/swanctl/conf.d/branch.conf", SWANCTL)
        put(machine, "/etc/swanctl/x509ca/corp-ca.pem", self.authority, mode="644")
        put(machine, "/etc/ipsec.conf", IPSEC, mode="644")
        put(machine, "/etc/ipsec.secrets", f'alice@example.com : EAP "{PASSWORD}"\n')
        put(machine, "/etc/ipsec.d/cacerts/corp-ca.pem", self.authority, mode="644")
        put(machine, "/usr/local/bin/pass", f"#!/bin/sh\necho '{PASSWORD}'\n", mode="755")


def put(machine: BootedMachine, path: str, content: str | bytes, *, owner: str = "root", mode: str = "600") -> None:
    """Write a file with its directories, all of the owner's if they are new."""
    data = base64.b64encode(content.encode() if isinstance(content, str) else content).decode()
    script = (
        'd=$(dirname "$1"); [ -d "$d" ] || install -d -o "$2" -g "$2" "$d"; '
        'base64 -d >"$1"; chown "$2:$2" "$1"; chmod "$3" "$1"'
    )
    machine.run("sh", "-ec", script, "put", path, owner, mode, stdin=data)
