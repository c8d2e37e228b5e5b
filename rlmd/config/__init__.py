"""What a person wrote: the configuration file, read, checked and turned into the core's policy."""
