"""A package, so that other directories of tests may use the same names for their files."""
