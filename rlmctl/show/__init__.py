"""Pictures of the daemon's replies: tables, lines, charts and pages."""
