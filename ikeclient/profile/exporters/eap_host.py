"""Windows' description of an EAP method, EapHostConfig, as `Add-VpnConnection -EapConfigXmlStream` takes it.

Elements and their order are those of Microsoft's schemas EapHostConfig, MsPeapConnectionProperties,
EapTlsConnectionProperties, EapTtlsConnectionProperties and MsChapV2ConnectionProperties. Authorities are named there by
the SHA-1 of their certificates, and have to be in the machine's store.
"""

from __future__ import annotations

import hashlib
from xml.sax.saxutils import escape

from ikeclient.profile.exporters.parts import Parts

_SPACE = "http://www.microsoft.com/provisioning/"
_TYPES = {"eap-mschapv2": 26, "eap-tls": 13, "eap-peap": 25, "eap-ttls": 21}
_TTLS_AUTHOR = 311  # Microsoft
_PEAP_INNER = {None: 26, "mschapv2": 26, "tls": 13}
_TTLS_INNER = {None: "MSCHAPv2Authentication", "mschapv2": "MSCHAPv2Authentication", "pap": "PAPAuthentication"}
_TTLS_EAP = {"eap-mschapv2": 26, "tls": 13}


def write_eap_host(parts: Parts) -> str | None:
    """The XML for the profile's method, without a line break or a single quote; None for methods without settings.

    What Windows cannot say is noted among the losses.
    """
    method = parts.auth.method
    if method not in _TYPES:
        return None
    match method:
        case "eap-tls":
            config = _eap(13, _tls(parts))
        case "eap-peap":
            config = _eap(25, _peap(parts))
        case "eap-ttls":
            config = _ttls(parts)
        case _:
            config = _eap(26, "")
    return _host(_TYPES[method], config).replace("'", "&apos;")


def _host(number: int, config: str) -> str:
    author = _TTLS_AUTHOR if number == _TYPES["eap-ttls"] else 0
    common = "".join(
        _element(name, str(value), "EapCommon")
        for name, value in (("Type", number), ("VendorId", 0), ("VendorType", 0), ("AuthorId", author))
    )
    inside = _element("EapMethod", common) + _element("Config", config, "EapHostConfig")
    return _element("EapHostConfig", inside, "EapHostConfig")


def _eap(number: int, settings: str) -> str:
    """A method of the kind that EAP-TLS, PEAP and EAP-MSCHAPv2 are."""
    if number == _TYPES["eap-mschapv2"]:
        settings = _element("EapType", _element("UseWinLogonCredentials", "false"), "MsChapV2ConnectionPropertiesV1")
    return _element("Eap", _element("Type", str(number)) + settings, "BaseEapConnectionPropertiesV1")


def _tls(parts: Parts, *, inner: bool = False) -> str:
    store = _element("CertificateStore", _element("SimpleCertSelection", "true"))
    content = _element("CredentialsSource", store) + _validation(parts, "TrustedRootCA")
    content += _element("DifferentUsername", "false")
    for name in ("PerformServerValidation", "AcceptServerName"):
        content += _element(name, "true", "EapTlsConnectionPropertiesV2")
    if parts.auth.anonymous_identity and not inner:
        parts.lost(f"{parts.section}.anonymous_identity", "Windows names the certificate's account with EAP-TLS")
    return _element("EapType", content, "EapTlsConnectionPropertiesV1")


def _peap(parts: Parts) -> str:
    auth = parts.auth
    if auth.inner not in _PEAP_INNER:
        parts.lost(f'{parts.section}.inner = "{auth.inner}"', "Windows has EAP-MSCHAPv2 and EAP-TLS inside PEAP")
    number = _PEAP_INNER.get(auth.inner, 26)
    content = _validation(parts, "TrustedRootCA")
    content += _element("FastReconnect", "true") + _element("InnerEapOptional", "false")
    content += _eap(number, _tls(parts, inner=True) if number == _TYPES["eap-tls"] else "")
    content += _element("EnableQuarantineChecks", "false") + _element("RequireCryptoBinding", "false")
    more = "".join(
        _element(name, "true", "MsPeapConnectionPropertiesV2")
        for name in ("PerformServerValidation", "AcceptServerName")
    )
    if auth.anonymous_identity:
        private = _element("EnableIdentityPrivacy", "true")
        private += _element("AnonymousUserName", escape(auth.anonymous_identity))
        more += _element("IdentityPrivacy", private, "MsPeapConnectionPropertiesV2")
    content += _element("PeapExtensions", more)
    return _element("EapType", content, "MsPeapConnectionPropertiesV1")


def _ttls(parts: Parts) -> str:
    auth = parts.auth
    if (number := _TTLS_EAP.get(auth.inner or "")) is not None:
        inner = _host(number, _eap(number, _tls(parts, inner=True) if number == _TYPES["eap-tls"] else ""))
    else:
        if auth.inner not in _TTLS_INNER:
            parts.lost(f'{parts.section}.inner = "{auth.inner}"', "Windows has PAP, MSCHAPv2 and EAP inside EAP-TTLS")
        inner = _element(_TTLS_INNER.get(auth.inner, "MSCHAPv2Authentication"), "")
    content = _validation(parts, "TrustedRootCAHash")
    content += _element("Phase2Authentication", inner)
    private = _element("IdentityPrivacy", "true" if auth.anonymous_identity else "false")
    if auth.anonymous_identity:
        private += _element("AnonymousIdentity", escape(auth.anonymous_identity))
    content += _element("Phase1Identity", private)
    return _element("EapTtls", content, "EapTtlsConnectionPropertiesV1")


def _validation(parts: Parts, authority: str) -> str:
    """What the server must prove: a name, and an authority by its fingerprint. Nobody is asked to accept another."""
    names = parts.auth.server_name or parts.gateway_identity
    marks = [hashlib.sha1(each.der, usedforsecurity=False).hexdigest() for each in parts.server_authorities()]
    content = _element("ServerNames", escape(names))
    content += "".join(_element(authority, mark) for mark in dict.fromkeys(marks))
    if authority == "TrustedRootCA":
        content = _element("DisableUserPromptForServerValidation", "true") + content
    else:
        content += _element("DisablePrompt", "true")
    return _element("ServerValidation", content)


def _element(name: str, content: str, schema: str = "") -> str:
    space = f' xmlns="{_SPACE}{schema}"' if schema else ""
    return f"<{name}{space}>{content}</{name}>"
