"""What rlmd costs, beside what a user would have without it. `python -m benchmarks --help` says how to run it."""
