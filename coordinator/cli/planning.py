"""``tilefleet plan``."""
