"""Machines of Amazon EC2, and what they need beside them: network, identity, image, bucket, queues.

The rules: everything that is made carries the tag ``tilefleet:fleet`` from its first moment, and only what carries it is ever
changed or removed; every call may be repeated; what is not ours is looked at and left alone.
"""
