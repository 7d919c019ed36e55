"""Bytes to frozen values and back: the IKEv2 wire format, with no I/O and no policy."""
