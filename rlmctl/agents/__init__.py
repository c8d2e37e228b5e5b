"""Coding agents that rlmd serves: a package each, with the shim and its installer."""
