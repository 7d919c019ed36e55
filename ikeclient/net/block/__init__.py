"""The kill switch: what a tunnel keeps closed on the machine, which outlives its process."""
