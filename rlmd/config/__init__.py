"""The configuration file of a person: read, checked and turned into the core's policy."""
