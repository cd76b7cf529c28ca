"""One object of every wire message and record, as version 1 sends it; ``v1/<name>.json`` holds the bytes.

``python -m tests.unit.golden`` writes the files again. Before a release that is all; after one, a file that was ever
sent is kept: rename it to ``<name>.<n>.json`` when a field is added, and it must still decode.
"""
