"""What can be said about usage beyond what the daemon says: forecasts, suggested limits, totals."""
