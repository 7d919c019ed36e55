"""ikeclient: VPN access over IKEv2, entirely in userspace."""

__version__ = "0.1.0"
