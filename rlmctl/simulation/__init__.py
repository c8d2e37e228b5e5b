"""The decision core under a described load, on a virtual clock: where requests would go, what would be refused.

`run.py` is the agents and the clock, `provider.py` what the providers really do, `outcome.py` what came of it.
All of it is pure: chance and time are arguments, and nothing here reads a file or a clock.
"""
