"""The client side of the socket, for programs: it starts fast and imports the standard library only."""
