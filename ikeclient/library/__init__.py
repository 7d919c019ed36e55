"""Tunnels inside a Python program, in its own event loop."""
