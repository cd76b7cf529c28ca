"""Real Linux nodes on one machine: systemd as PID 1, real OpenSSH, a network between them; and the tests that need them.

``machines`` is what tests use, by way of the fixtures in ``conftest``.
"""
