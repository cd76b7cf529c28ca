"""What would go wrong, found before anything is spent: ``tilefleet doctor``.

Probes look and measure, judgements (pure) say what that means and how to mend it, ``examination`` asks all of them at once.
Nothing is made or changed but one empty object in the store, which is removed again.
"""
