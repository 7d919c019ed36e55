"""Sockets to the gateway, and what the kernel knows about the path."""
