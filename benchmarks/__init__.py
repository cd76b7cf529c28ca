"""How fast tilefleet is beside others, measured in one run on one machine. `make bench`; `python -m benchmarks --help`."""
