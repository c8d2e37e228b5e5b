"""What a user would have instead of rlmd, run in an environment of its own: nothing here imports anything of ours."""
