"""The machines of a fleet: what there should be, what there is, and the way from one to the other.

``reconcile`` and ``scaling`` are pure: desired and observed in, actions out. ``convergence`` carries the actions out through
the ports of ``ports``: a provider of machines (``ec2``, ``hosts``) and a transport to them (``ssh``, ``ssm``).
"""
