"""Errors of providers: their meaning and how long to wait. `classify` and `read_windows` are the way in."""
