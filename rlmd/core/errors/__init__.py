"""What a provider's error means and how long to wait: `classify` and `observe` are the way in."""
