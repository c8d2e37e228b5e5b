"""rlmctl: the control client of rlmd. It decides nothing: it asks the daemon and shows the answer."""
