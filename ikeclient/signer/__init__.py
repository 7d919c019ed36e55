"""Private keys on tokens and with agents: the process that signs with them, and how it is talked with."""
