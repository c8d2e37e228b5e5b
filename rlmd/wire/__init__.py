"""Messages on the socket: each defined once, their framing, and their translation from the core's values."""
