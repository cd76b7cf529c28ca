"""One small file per kind of work. ``run(work, context)`` computes it and commits its output; ``dispatch`` finds the file."""
