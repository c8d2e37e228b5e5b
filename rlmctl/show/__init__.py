"""What a person sees: tables, lines, charts and pages, drawn from the daemon's replies."""
