"""Conclusions from the daemon's replies: forecasts, suggested limits, totals, who could stand in."""
