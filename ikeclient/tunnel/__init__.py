"""One connection: drives the protocol core, the data plane and the machine."""
