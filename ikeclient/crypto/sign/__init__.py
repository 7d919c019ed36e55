"""Signatures and the schemes that they are made with."""
