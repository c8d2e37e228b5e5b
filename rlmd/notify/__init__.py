"""Notifications: which events go to which targets, when, and again where a target fails."""
