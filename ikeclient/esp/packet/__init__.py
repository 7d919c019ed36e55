"""Inner packets: parsing, MSS, ICMP and ECN."""
