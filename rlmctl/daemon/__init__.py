"""The daemon's process seen from outside: started, stopped, found, and kept by a service manager."""
