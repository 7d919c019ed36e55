"""The TUN device and what it can offload."""
