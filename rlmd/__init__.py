"""rlmd: the daemon that owns what is known about every provider's limits."""

__version__ = "0.1.0"
