"""What measurements mean, and how to mend them: pure functions, one per check."""
