"""Packets between the device and the gateway."""
