"""The ESP data plane without input and output: packets in, packets out, in batches (RFC 4303, RFC 3948)."""
