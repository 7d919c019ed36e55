"""When a tunnel is up by itself: the rules of `[when]`, the network they are about, and what acts on them."""
