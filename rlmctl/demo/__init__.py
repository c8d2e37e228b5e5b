"""`rlmctl demo`: a limit is hit and nobody notices, told with a real daemon and providers on loopback."""
