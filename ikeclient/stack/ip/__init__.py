"""IPv4, IPv6 and ICMP: headers, errors, fragments and path MTUs."""
