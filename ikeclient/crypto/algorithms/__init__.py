"""Ciphers, PRFs, key exchanges, and the transforms that name them."""
