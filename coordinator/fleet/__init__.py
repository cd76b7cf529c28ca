"""The machines of a fleet: what there should be, what there is, and the way from one to the other.

``deciding`` is pure: desired and observed in, actions out. ``convergence`` carries the actions out through the ports of
``ports``: a provider of machines (``ec2``, ``hosts``) and a transport to them (``connections``). ``setup`` is what happens on a
node, ``money`` what it costs, ``doctor`` what would go wrong.
"""
