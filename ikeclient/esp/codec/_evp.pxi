# Part of _offload.pyx: ESP's ciphers over OpenSSL's EVP, a run of packets with one call.
#
# The library is opened by `Library(path)` and nowhere else; its prototypes are declared here by hand, so that no header
# and no library is needed to build or to install. A context and its key are made once for each SA and direction.
# Setting up a context is most of what a packet costs elsewhere.
#
# Every range is checked before a loop begins, and within it a pointer stays in its slot. The loops run without the GIL
# and call nothing but the library.

from cpython.bytes cimport PyBytes_AsString, PyBytes_FromStringAndSize

cdef extern from "dlfcn.h" nogil:
    void* dlopen(const char* path, int flags)
    void* dlsym(void* handle, const char* name)
    char* dlerror()
    int RTLD_NOW
    int RTLD_LOCAL

cdef extern from "sys/auxv.h" nogil:
    unsigned long getauxval(unsigned long kind)
    unsigned long AT_SECURE

cdef enum:
    ESP = 8           # SPI and the low half of the sequence number
    TAG = 16          # of an AEAD
    BLOCK = 16        # of AES
    DIGEST = 64       # the longest of an HMAC
    LONGEST_TEXT = 131072
    POOL = 4096
    CTRL_SET_IVLEN = 9  # openssl/evp.h
    CTRL_GET_TAG = 16
    CTRL_SET_TAG = 17

ctypedef const void* (*f_describe)() noexcept nogil
ctypedef void* (*f_new)() noexcept nogil
ctypedef void (*f_free)(void* context) noexcept nogil
ctypedef int (*f_init)(void* context, const void* cipher, void* engine, const uint8_t* key, const uint8_t* iv,
                       int encrypting) noexcept nogil
ctypedef int (*f_update)(void* context, uint8_t* out, int* n, const uint8_t* source, int length) noexcept nogil
ctypedef int (*f_final)(void* context, uint8_t* out, int* n) noexcept nogil
ctypedef int (*f_ctrl)(void* context, int kind, int length, void* data) noexcept nogil
ctypedef int (*f_padding)(void* context, int on) noexcept nogil
ctypedef int (*f_mac_init)(void* context, const void* key, int length, const void* digest, void* engine) noexcept nogil
ctypedef int (*f_mac_update)(void* context, const uint8_t* data, size_t length) noexcept nogil
ctypedef int (*f_mac_final)(void* context, uint8_t* out, unsigned int* n) noexcept nogil
ctypedef void (*f_cleanse)(void* data, size_t length) noexcept nogil
ctypedef int (*f_compare)(const void* one, const void* other, size_t length) noexcept nogil
ctypedef const char* (*f_version)(int kind) noexcept nogil
ctypedef void (*f_clear_errors)() noexcept nogil

cdef struct Evp:
    f_new new
    f_free free
    f_init init
    f_update update
    f_final final
    f_ctrl ctrl
    f_padding padding
    f_new mac_new
    f_free mac_free
    f_mac_init mac_init
    f_mac_update mac_update
    f_mac_final mac_final
    f_cleanse cleanse
    f_compare compare
    f_clear_errors clear_errors


cdef void* _symbol(void* handle, str name) except NULL:
    cdef bytes encoded = name.encode("ascii")
    cdef void* found = dlsym(handle, encoded)
    if found == NULL:
        raise OSError(f"it lacks {name}")
    return found


cdef int _live = 0  # contexts that have not been given back


def live():
    return _live


def raised():
    return getauxval(AT_SECURE) != 0


cdef class Library:
    """An OpenSSL library that has been opened; it stays open. Raises OSError if it is not there, or not one."""

    cdef void* handle
    cdef Evp evp
    cdef readonly str version
    cdef readonly str path

    def __init__(self, str path):
        cdef bytes encoded = path.encode("utf-8", "surrogateescape")
        cdef f_version version
        cdef void* handle = dlopen(encoded, RTLD_NOW | RTLD_LOCAL)
        if handle == NULL:
            raise OSError(dlerror().decode("utf-8", "replace"))
        self.evp.new = <f_new>_symbol(handle, "EVP_CIPHER_CTX_new")
        self.evp.free = <f_free>_symbol(handle, "EVP_CIPHER_CTX_free")
        self.evp.init = <f_init>_symbol(handle, "EVP_CipherInit_ex")
        self.evp.update = <f_update>_symbol(handle, "EVP_CipherUpdate")
        self.evp.final = <f_final>_symbol(handle, "EVP_CipherFinal_ex")
        self.evp.ctrl = <f_ctrl>_symbol(handle, "EVP_CIPHER_CTX_ctrl")
        self.evp.padding = <f_padding>_symbol(handle, "EVP_CIPHER_CTX_set_padding")
        self.evp.mac_new = <f_new>_symbol(handle, "HMAC_CTX_new")
        self.evp.mac_free = <f_free>_symbol(handle, "HMAC_CTX_free")
        self.evp.mac_init = <f_mac_init>_symbol(handle, "HMAC_Init_ex")
        self.evp.mac_update = <f_mac_update>_symbol(handle, "HMAC_Update")
        self.evp.mac_final = <f_mac_final>_symbol(handle, "HMAC_Final")
        self.evp.cleanse = <f_cleanse>_symbol(handle, "OPENSSL_cleanse")
        self.evp.compare = <f_compare>_symbol(handle, "CRYPTO_memcmp")
        self.evp.clear_errors = <f_clear_errors>_symbol(handle, "ERR_clear_error")
        version = <f_version>_symbol(handle, "OpenSSL_version")
        self.version = version(0).decode("ascii", "replace")
        self.path = path
        self.handle = handle


cdef class RunCipher:
    """Seals or opens the packets of one direction of one Child SA.

    - `cipher`, `digest`: the names of the library's functions that describe them, `digest` only without an AEAD.
    - `entropy(count)`: random bytes for the IVs of AES-CBC.

    Raises ValueError if keys do not fit, and OSError if the library will not do it.
    """

    cdef Library library
    cdef Evp* evp
    cdef void* context
    cdef void* mac
    cdef uint8_t salt[4]
    cdef Py_ssize_t salted, icv, gap, pooled
    cdef uint32_t spi
    cdef bint esn, sealing, ccm
    cdef bint busy  # in a loop without the GIL: a context serves one thread at a time
    cdef object entropy
    cdef bytes pool

    def __init__(self, Library library not None, str cipher, bytes key, bytes salt, uint32_t spi, bint esn,
                 bint sealing, str digest, bytes mac_key, Py_ssize_t icv, entropy):
        global _live
        cdef const void* described
        if self.context != NULL or self.library is not None:
            raise ValueError("made already")
        if library.handle == NULL:
            raise ValueError("no library")
        if not 8 <= icv <= DIGEST or (digest is None) != (len(salt) > 0) or (digest is None and icv != TAG):
            raise ValueError("impossible lengths")
        if _KEYS.get(cipher) != (len(key), len(salt)):  # what is read of them, and the kind of cipher that is meant
            raise ValueError(f"{cipher} does not take {len(key)} bytes of key and {len(salt)} of salt")
        if digest is not None and _DIGESTS.get(digest, 0) < icv:
            raise ValueError(f"{digest} does not give {icv} bytes")
        self.library = library
        self.evp = &library.evp
        self.spi, self.esn, self.sealing, self.icv = spi, esn, sealing, icv
        self.gap = ESP + (8 if digest is None else BLOCK)
        self.entropy, self.pool, self.pooled = entropy, b"", 0
        self.salted, self.ccm = len(salt), "ccm" in cipher
        memcpy(self.salt, PyBytes_AsString(salt), self.salted)
        self.context = self.evp.new()
        if self.context == NULL:
            raise MemoryError
        _live += 1
        described = (<f_describe>_symbol(library.handle, cipher))()
        if digest is None:
            self._done(self.evp.init(self.context, described, NULL, NULL, NULL, sealing))
            if self.ccm:
                self._done(self.evp.ctrl(self.context, CTRL_SET_IVLEN, <int>self.salted + 8, NULL))
                self._done(self.evp.ctrl(self.context, CTRL_SET_TAG, TAG, NULL))
            self._done(self.evp.init(self.context, NULL, NULL, <uint8_t*>PyBytes_AsString(key), NULL, sealing))
        else:
            # One chain for all packets: what a packet is chained to is a block whose plaintext is of no use.
            self._done(self.evp.init(self.context, described, NULL, <uint8_t*>PyBytes_AsString(key), _ZEROS, sealing))
            self._done(self.evp.padding(self.context, 0))
            self.mac = self.evp.mac_new()
            if self.mac == NULL:
                raise MemoryError
            _live += 1
            described = (<f_describe>_symbol(library.handle, digest))()
            self._done(self.evp.mac_init(self.mac, PyBytes_AsString(mac_key), <int>len(mac_key), described, NULL))

    @property
    def version(self):
        return None if self.library is None else self.library.version

    cdef int _done(self, int result) except -1:
        if result != 1:
            self.evp.clear_errors()
            raise OSError("the library refuses")
        return 0

    def __dealloc__(self):
        global _live
        if self.context != NULL:
            self.evp.free(self.context)  # which wipes the key
            self.context = NULL
            _live -= 1
        if self.mac != NULL:
            self.evp.mac_free(self.mac)
            self.mac = NULL
            _live -= 1
        if self.library is not None:
            self.evp.cleanse(self.salt, 4)

    # One packet

    cdef bint _seal_aead(self, uint8_t* slot, Py_ssize_t text, uint64_t sequence, const uint8_t* iv) noexcept nogil:
        """Seal the plaintext of `text` bytes that is in its place in a slot already."""
        cdef uint8_t nonce[12]
        cdef uint8_t associated[12]
        cdef int n = 0, over = _associate(associated, self.spi, sequence, self.esn)
        _write32(slot, self.spi)
        _write32(slot + 4, <uint32_t>sequence)
        memcpy(slot + ESP, iv, 8)
        memcpy(nonce, self.salt, self.salted)
        memcpy(nonce + self.salted, iv, 8)
        slot += 16
        return (
            self.evp.init(self.context, NULL, NULL, NULL, nonce, 1) == 1
            and (not self.ccm or self.evp.update(self.context, NULL, &n, NULL, <int>text) == 1)
            and self.evp.update(self.context, NULL, &n, associated, over) == 1
            and self.evp.update(self.context, slot, &n, slot, <int>text) == 1
            and n == text
            and (self.ccm or self.evp.final(self.context, slot + text, &n) == 1)
            and self.evp.ctrl(self.context, CTRL_GET_TAG, TAG, slot + text) == 1
        )

    cdef bint _open_aead(self, const uint8_t* packet, Py_ssize_t text, uint64_t sequence, uint8_t* out) noexcept nogil:
        """Verify and decrypt a packet with a text of that many bytes; `out` is void if it is not genuine."""
        cdef uint8_t nonce[12]
        cdef uint8_t associated[12]
        cdef int n = 0, over = _associate(associated, self.spi, sequence, self.esn)
        if not self.esn:
            memcpy(associated, packet, ESP)
        memcpy(nonce, self.salt, self.salted)
        memcpy(nonce + self.salted, packet + ESP, 8)
        packet += 16
        return (
            self.evp.init(self.context, NULL, NULL, NULL, nonce, 0) == 1
            and self.evp.ctrl(self.context, CTRL_SET_TAG, TAG, <void*>(packet + text)) == 1
            and (not self.ccm or self.evp.update(self.context, NULL, &n, NULL, <int>text) == 1)
            and self.evp.update(self.context, NULL, &n, associated, over) == 1
            and self.evp.update(self.context, out, &n, packet, <int>text) == 1
            and n == text
            and (self.ccm or self.evp.final(self.context, out + text, &n) == 1)  # CCM has compared already
        )

    cdef bint _mac(self, const uint8_t* covered, Py_ssize_t length, uint64_t sequence, uint8_t* out) noexcept nogil:
        """The untruncated HMAC over the packet so far, and over the high half of an extended sequence number."""
        cdef uint8_t high[4]
        cdef unsigned int n = 0
        if self.evp.mac_init(self.mac, NULL, 0, NULL, NULL) != 1:
            return False
        if self.evp.mac_update(self.mac, covered, length) != 1:
            return False
        if self.esn:
            _write32(high, <uint32_t>(sequence >> 32))
            if self.evp.mac_update(self.mac, high, 4) != 1:
                return False
        return self.evp.mac_final(self.mac, out, &n) == 1 and n >= <unsigned int>self.icv

    cdef bint _seal_cbc(self, uint8_t* slot, Py_ssize_t text, uint64_t sequence, const uint8_t* random) noexcept nogil:
        cdef uint8_t mac[DIGEST]
        cdef int n = 0
        _write32(slot, self.spi)
        _write32(slot + 4, <uint32_t>sequence)
        memcpy(slot + ESP, random, BLOCK)
        if self.evp.update(self.context, slot + ESP, &n, slot + ESP, <int>(BLOCK + text)) != 1 or n != BLOCK + text:
            return False
        if not self._mac(slot, ESP + BLOCK + text, sequence, mac):
            return False
        memcpy(slot + ESP + BLOCK + text, mac, self.icv)
        return True

    cdef bint _open_cbc(self, const uint8_t* packet, Py_ssize_t text, uint64_t sequence, uint8_t* out) noexcept nogil:
        """Verified before anything is decrypted."""
        cdef uint8_t mac[DIGEST]
        cdef uint8_t first[BLOCK]
        cdef int n = 0
        if text % BLOCK or not self._mac(packet, ESP + BLOCK + text, sequence, mac):
            return False
        packet += ESP
        if self.evp.compare(mac, packet + BLOCK + text, self.icv) != 0:
            return False
        if self.evp.update(self.context, first, &n, packet, BLOCK) != 1 or n != BLOCK:
            return False
        return self.evp.update(self.context, out, &n, packet + BLOCK, <int>text) == 1 and n == text

    cdef inline bint _seal(self, uint8_t* slot, Py_ssize_t text, uint64_t sequence, const uint8_t* random) noexcept nogil:
        cdef uint8_t iv[8]
        if self.mac != NULL:
            return self._seal_cbc(slot, text, sequence, random)
        _write32(iv, <uint32_t>(sequence >> 32))
        _write32(iv + 4, <uint32_t>sequence)
        return self._seal_aead(slot, text, sequence, iv)

    cdef inline bint _open(self, const uint8_t* packet, Py_ssize_t text, uint64_t sequence, uint8_t* out) noexcept nogil:
        if self.mac != NULL:
            return self._open_cbc(packet, text, sequence, out)
        return self._open_aead(packet, text, sequence, out)

    cdef const uint8_t* _random(self, Py_ssize_t packets) except? NULL:
        """Random blocks for the IVs of as many packets; NULL for an AEAD, which needs none."""
        cdef Py_ssize_t need = packets * BLOCK
        if self.mac == NULL:
            return NULL
        if len(self.pool) - self.pooled < need:
            self.pool = self.entropy(max(POOL, need))
            self.pooled = 0
            if len(self.pool) < need:
                self.pool = b""
                raise ValueError("too little entropy")
        self.pooled += need
        return <const uint8_t*>PyBytes_AsString(self.pool) + self.pooled - need

    cdef int _direction(self, bint sealing) except -1:
        if self.context == NULL or self.sealing != sealing:
            raise ValueError("made for the other direction")
        if self.busy:
            raise RuntimeError("another thread uses this cipher")
        return 0

    cdef int _text(self, Py_ssize_t text) except -1:
        """Check the length of a plaintext with its trailer."""
        if text < 2 or text > LONGEST_TEXT or (self.mac != NULL and text % BLOCK):
            raise ValueError("impossible length")
        return 0

    def seal(self, uint64_t sequence, const uint8_t[::1] plaintext, const uint8_t[::1] iv=None):
        cdef Py_ssize_t text = plaintext.shape[0]
        cdef bytes packet
        cdef uint8_t* slot
        cdef bint done
        self._direction(True)
        self._text(text)
        packet = PyBytes_FromStringAndSize(NULL, self.gap + text + self.icv)
        slot = <uint8_t*>PyBytes_AsString(packet)
        memcpy(slot + self.gap, _span(plaintext, 0, text), text)
        if iv is None:
            done = self._seal(slot, text, sequence, self._random(1))
        else:  # for the published vectors only
            if self.mac != NULL or iv.shape[0] != 8:
                raise ValueError("impossible IV")
            done = self._seal_aead(slot, text, sequence, &iv[0])
        if not done:
            self.evp.clear_errors()
            raise OSError("the library refuses")
        return packet

    def open(self, uint64_t sequence, const uint8_t[::1] packet):
        cdef Py_ssize_t text = packet.shape[0] - self.gap - self.icv
        cdef bytes plaintext
        self._direction(False)
        if text < 2 or text > LONGEST_TEXT or (self.mac != NULL and text % BLOCK):
            return None
        plaintext = PyBytes_FromStringAndSize(NULL, text)
        if self._open(&packet[0], text, sequence, <uint8_t*>PyBytes_AsString(plaintext)):
            return plaintext
        self.evp.clear_errors()
        return None

    # A run

    def seal_run(self, uint8_t[::1] out, Py_ssize_t stride, Py_ssize_t count, Py_ssize_t last, uint64_t first):
        self._seal_run(out, stride, count, last, first)

    cdef int _seal_run(self, uint8_t[::1] out, Py_ssize_t stride, Py_ssize_t count, Py_ssize_t last,
                       uint64_t first) except -1:
        cdef Py_ssize_t i, sealed = 0, over = self.gap + self.icv
        cdef const uint8_t* random
        cdef uint8_t* slot
        self._direction(True)
        if count < 1 or count > SLOTS or last > stride or stride > over + LONGEST_TEXT:
            raise ValueError("impossible slots")
        if count > 1:
            self._text(stride - over)
        self._text(last - over)
        if (count - 1) * stride > out.shape[0] - last:
            raise IndexError("outside the buffer")
        random = self._random(count)
        slot = &out[0]
        self.busy = True
        with nogil:
            for i in range(count):
                if not self._seal(slot, (stride if i < count - 1 else last) - over, first + <uint64_t>i, random):
                    break
                slot += stride
                if random != NULL:
                    random += BLOCK
                sealed += 1
        self.busy = False
        if sealed < count:
            self.evp.clear_errors()
            raise OSError("the library refuses")
        return 0

    def open_run(self, uint8_t[::1] arena, Py_ssize_t stride, Py_ssize_t first, Py_ssize_t count, Py_ssize_t last,
                 numbers, uint8_t[::1] states):
        cdef Py_ssize_t i, text, forged = 0, over = self.gap + self.icv
        cdef uint64_t sequences[SLOTS]
        cdef uint8_t* slot
        self._direction(False)
        if count < 1 or count > SLOTS or first < 0 or last < 0:
            raise ValueError("impossible slots")
        if stride < 1 or stride < last or stride > over + LONGEST_TEXT:
            raise ValueError("impossible slots")
        if len(numbers) != count or states.shape[0] != count:
            raise ValueError("a number and a state for each packet")
        if first > arena.shape[0] // stride or (first + count - 1) * stride > arena.shape[0] - last:
            raise IndexError("outside the buffer")
        i = 0
        for number in numbers:
            if i == count:
                raise ValueError("a number and a state for each packet")
            sequences[i] = number
            i += 1
        if i < count:
            raise ValueError("a number and a state for each packet")
        self._direction(False)  # again, as `numbers` may have run anything
        slot = &arena[0] + first * stride
        self.busy = True
        with nogil:
            for i in range(count):
                text = (stride if i < count - 1 else last) - over
                if states[i] == 0:
                    if text < 2 or not self._open(slot, text, sequences[i], slot + self.gap):
                        states[i] = 1
                        forged += 1
                slot += stride
        self.busy = False
        if forged:
            self.evp.clear_errors()
        return forged


cdef const uint8_t* _ZEROS = <const uint8_t*>b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"


# The lengths of key and salt.
_KEYS = {
    "EVP_aes_128_gcm": (16, 4),
    "EVP_aes_192_gcm": (24, 4),
    "EVP_aes_256_gcm": (32, 4),
    "EVP_aes_128_ccm": (16, 3),
    "EVP_aes_192_ccm": (24, 3),
    "EVP_aes_256_ccm": (32, 3),
    "EVP_chacha20_poly1305": (32, 4),
    "EVP_aes_128_cbc": (16, 0),
    "EVP_aes_192_cbc": (24, 0),
    "EVP_aes_256_cbc": (32, 0),
}
_DIGESTS = {"EVP_sha1": 20, "EVP_sha256": 32, "EVP_sha384": 48, "EVP_sha512": 64}


cdef inline void _write32(uint8_t* to, uint32_t value) noexcept nogil:
    to[0] = <uint8_t>(value >> 24)
    to[1] = <uint8_t>(value >> 16)
    to[2] = <uint8_t>(value >> 8)
    to[3] = <uint8_t>value


cdef inline int _associate(uint8_t* to, uint32_t spi, uint64_t sequence, bint esn) noexcept nogil:
    """Write what is authenticated only (RFC 4106 section 5); returns its length."""
    _write32(to, spi)
    if not esn:
        _write32(to + 4, <uint32_t>sequence)
        return 8
    _write32(to + 4, <uint32_t>(sequence >> 32))
    _write32(to + 8, <uint32_t>sequence)
    return 12
