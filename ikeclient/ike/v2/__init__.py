"""IKEv2 (RFC 7296): the initiator, its IKE SAs and their exchanges."""
