"""What the machine provides: devices, sockets, routes, name resolution, and the rights to change them."""
