"""TCP without input and output: segments, the time and entropy come in; frames and a deadline go out (RFC 9293)."""
