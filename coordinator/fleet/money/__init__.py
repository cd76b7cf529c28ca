"""What machines cost, have cost, and will cost before anything is spent. Pure; estimates by list price, never a bill."""
