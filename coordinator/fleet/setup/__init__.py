"""From a bare machine to a running daemon and back: what a node is set up from, the steps, and the scripts that take them.

``steps`` and ``requirements`` are pure; ``bootstrap`` and ``updating`` carry the steps out over a ``Connection``.
"""
