"""rlmd: the daemon that owns what is known about every provider's limits."""
