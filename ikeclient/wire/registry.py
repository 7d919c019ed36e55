"""The IANA numbers of IKEv2 as open enumerations (RFC 7296 section 3 and its registries).

A number without a name is a value with a printable name, not an error: policy decides about it later, in one place.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Self


class OpenEnum(IntEnum):
    """An IntEnum that accepts numbers it has no name for."""

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, int) or value < 0:
            return None
        member = int.__new__(cls, value)
        member._name_ = f"{cls.__name__}_{value}"
        member._value_ = value
        return member

    @property
    def known(self) -> bool:
        """Whether this number has a name here."""
        return self._name_ in type(self).__members__

    def __str__(self) -> str:
        return self._name_


class ExchangeType(OpenEnum):
    """RFC 7296 section 3.1."""

    IKE_SA_INIT = 34
    IKE_AUTH = 35
    CREATE_CHILD_SA = 36
    INFORMATIONAL = 37


class PayloadType(OpenEnum):
    """RFC 7296 section 3.2, RFC 7383 section 2.5."""

    NONE = 0
    SA = 33
    KE = 34
    IDI = 35
    IDR = 36
    CERT = 37
    CERTREQ = 38
    AUTH = 39
    NONCE = 40
    NOTIFY = 41
    DELETE = 42
    VENDOR_ID = 43
    TSI = 44
    TSR = 45
    ENCRYPTED = 46
    CONFIGURATION = 47
    EAP = 48
    ENCRYPTED_FRAGMENT = 53


class ProtocolId(OpenEnum):
    """RFC 7296 section 3.3.1."""

    NONE = 0
    IKE = 1
    AH = 2
    ESP = 3


class TransformType(OpenEnum):
    """RFC 7296 section 3.3.2."""

    ENCRYPTION = 1
    PRF = 2
    INTEGRITY = 3
    KEY_EXCHANGE = 4
    SEQUENCE_NUMBERS = 5


class EncryptionId(OpenEnum):
    """Transform type 1."""

    TRIPLE_DES = 3
    NULL = 11
    AES_CBC = 12
    AES_CTR = 13
    AES_CCM_8 = 14
    AES_CCM_12 = 15
    AES_CCM_16 = 16
    AES_GCM_8 = 18
    AES_GCM_12 = 19
    AES_GCM_16 = 20
    CHACHA20_POLY1305 = 28


class PrfId(OpenEnum):
    """Transform type 2."""

    HMAC_MD5 = 1
    HMAC_SHA1 = 2
    HMAC_SHA2_256 = 5
    HMAC_SHA2_384 = 6
    HMAC_SHA2_512 = 7


class IntegrityId(OpenEnum):
    """Transform type 3."""

    NONE = 0
    HMAC_MD5_96 = 1
    HMAC_SHA1_96 = 2
    HMAC_SHA2_256_128 = 12
    HMAC_SHA2_384_192 = 13
    HMAC_SHA2_512_256 = 14


class KeyExchangeId(OpenEnum):
    """Transform type 4."""

    NONE = 0
    MODP_1024 = 2
    MODP_2048 = 14
    MODP_3072 = 15
    MODP_4096 = 16
    MODP_6144 = 17
    MODP_8192 = 18
    ECP_256 = 19
    ECP_384 = 20
    ECP_521 = 21
    CURVE25519 = 31
    CURVE448 = 32


class SequenceNumbers(OpenEnum):
    """Transform type 5."""

    SHORT = 0
    EXTENDED = 1


class IdType(OpenEnum):
    """RFC 7296 section 3.5."""

    IPV4_ADDR = 1
    FQDN = 2
    RFC822_ADDR = 3
    IPV6_ADDR = 5
    DER_ASN1_DN = 9
    DER_ASN1_GN = 10
    KEY_ID = 11


class CertEncoding(OpenEnum):
    """RFC 7296 section 3.6."""

    PKCS7 = 1
    X509_SIGNATURE = 4
    CRL = 7
    HASH_AND_URL_X509 = 12
    HASH_AND_URL_BUNDLE = 13
    OCSP_CONTENT = 14  # RFC 4806


class AuthMethod(OpenEnum):
    """RFC 7296 section 3.8, RFC 4754, RFC 7427, RFC 7619."""

    RSA_SIGNATURE = 1
    SHARED_KEY = 2
    ECDSA_SHA256_P256 = 9
    ECDSA_SHA384_P384 = 10
    ECDSA_SHA512_P521 = 11
    NULL = 13
    DIGITAL_SIGNATURE = 14


class HashAlgorithm(OpenEnum):
    """RFC 7427 section 4, RFC 8420 section 2."""

    SHA1 = 1
    SHA2_256 = 2
    SHA2_384 = 3
    SHA2_512 = 4
    IDENTITY = 5


class NotifyType(OpenEnum):
    """RFC 7296 section 3.10.1 and the registry; types below 16384 are errors."""

    UNSUPPORTED_CRITICAL_PAYLOAD = 1
    INVALID_IKE_SPI = 4
    INVALID_MAJOR_VERSION = 5
    INVALID_SYNTAX = 7
    INVALID_MESSAGE_ID = 9
    INVALID_SPI = 11
    NO_PROPOSAL_CHOSEN = 14
    INVALID_KE_PAYLOAD = 17
    AUTHENTICATION_FAILED = 24
    SINGLE_PAIR_REQUIRED = 34
    NO_ADDITIONAL_SAS = 35
    INTERNAL_ADDRESS_FAILURE = 36
    FAILED_CP_REQUIRED = 37
    TS_UNACCEPTABLE = 38
    INVALID_SELECTORS = 39
    UNACCEPTABLE_ADDRESSES = 40
    UNEXPECTED_NAT_DETECTED = 41
    TEMPORARY_FAILURE = 43
    CHILD_SA_NOT_FOUND = 44
    INITIAL_CONTACT = 16384
    SET_WINDOW_SIZE = 16385
    ADDITIONAL_TS_POSSIBLE = 16386
    IPCOMP_SUPPORTED = 16387
    NAT_DETECTION_SOURCE_IP = 16388
    NAT_DETECTION_DESTINATION_IP = 16389
    COOKIE = 16390
    USE_TRANSPORT_MODE = 16391
    HTTP_CERT_LOOKUP_SUPPORTED = 16392
    REKEY_SA = 16393
    ESP_TFC_PADDING_NOT_SUPPORTED = 16394
    NON_FIRST_FRAGMENTS_ALSO = 16395
    MOBIKE_SUPPORTED = 16396
    ADDITIONAL_IP4_ADDRESS = 16397
    ADDITIONAL_IP6_ADDRESS = 16398
    NO_ADDITIONAL_ADDRESSES = 16399
    UPDATE_SA_ADDRESSES = 16400
    COOKIE2 = 16401
    NO_NATS_ALLOWED = 16402
    AUTH_LIFETIME = 16403
    MULTIPLE_AUTH_SUPPORTED = 16404
    ANOTHER_AUTH_FOLLOWS = 16405
    REDIRECT_SUPPORTED = 16406
    REDIRECT = 16407
    EAP_ONLY_AUTHENTICATION = 16417
    CHILDLESS_IKEV2_SUPPORTED = 16418
    IKEV2_FRAGMENTATION_SUPPORTED = 16430
    SIGNATURE_HASH_ALGORITHMS = 16431
    USE_PPK = 16435
    PPK_IDENTITY = 16436
    NO_PPK_AUTH = 16437
    SUPPORTED_AUTH_METHODS = 16443
    PADDING = 54123  # private use, ours: bytes without meaning, which receivers have to ignore (section 3.10.1)

    @property
    def is_error(self) -> bool:
        """Error types are 1 to 16383, status types the rest (RFC 7296 section 3.10.1)."""
        return self < 16384


class ConfigType(OpenEnum):
    """RFC 7296 section 3.15."""

    REQUEST = 1
    REPLY = 2
    SET = 3
    ACK = 4


class ConfigAttributeType(OpenEnum):
    """RFC 7296 section 3.15.1, RFC 7651 section 3, RFC 8598 section 4."""

    INTERNAL_IP4_ADDRESS = 1
    INTERNAL_IP4_NETMASK = 2
    INTERNAL_IP4_DNS = 3
    INTERNAL_IP4_NBNS = 4
    INTERNAL_IP4_DHCP = 6
    APPLICATION_VERSION = 7
    INTERNAL_IP6_ADDRESS = 8
    INTERNAL_IP6_DNS = 10
    INTERNAL_IP6_DHCP = 12
    INTERNAL_IP4_SUBNET = 13
    SUPPORTED_ATTRIBUTES = 14
    INTERNAL_IP6_SUBNET = 15
    P_CSCF_IP4_ADDRESS = 20
    P_CSCF_IP6_ADDRESS = 21
    INTERNAL_DNS_DOMAIN = 25
    INTERNAL_DNSSEC_TA = 26
    PRIVATE_P_CSCF_IP4_ADDRESS = 16389  # in use before RFC 7651
    PRIVATE_P_CSCF_IP6_ADDRESS = 16390
    UNITY_DEF_DOMAIN = 28674
    UNITY_SPLITDNS_NAME = 28675
    UNITY_SPLIT_INCLUDE = 28676
    UNITY_LOCAL_LAN = 28678


class SelectorType(OpenEnum):
    """RFC 7296 section 3.13.1."""

    IPV4_ADDR_RANGE = 7
    IPV6_ADDR_RANGE = 8


class EapCode(OpenEnum):
    """RFC 3748 section 4."""

    REQUEST = 1
    RESPONSE = 2
    SUCCESS = 3
    FAILURE = 4


class EapType(OpenEnum):
    """RFC 3748 section 5 and the registry."""

    IDENTITY = 1
    NOTIFICATION = 2
    NAK = 3
    MD5_CHALLENGE = 4
    GTC = 6
    TLS = 13
    SIM = 18
    TTLS = 21
    AKA = 23
    PEAP = 25
    MSCHAPV2 = 26
    AKA_PRIME = 50
    EXPANDED = 254
