"""The socket and its conversations: connections, requests, replies, and the one way effects leave."""
