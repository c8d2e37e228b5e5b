"""The pure core: what is used up, what rests, who is next.

Nothing in here reads a clock, a file, a socket or a random number: the time (`now`, epoch seconds), the zone
and the random number are arguments. Nothing in here imports anything of ours from outside this package.
"""
