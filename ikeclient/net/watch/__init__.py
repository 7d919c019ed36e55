"""The network as it is, and its changes."""
