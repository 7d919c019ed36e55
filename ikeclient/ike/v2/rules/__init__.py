"""The decisions of an IKE SA as pure functions: proposals, selectors, NAT, authentication."""
