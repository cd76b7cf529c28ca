"""The ``tilefleet`` command: one front door. Nothing here decides anything about matrices; it asks, shows and explains."""
