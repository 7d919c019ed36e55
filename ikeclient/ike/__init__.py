"""The IKEv2 state machines, sans-IO: bytes, time and entropy come in; datagrams, a deadline and events go out."""
