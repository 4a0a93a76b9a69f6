"""Training: objective, step, loop, and what keeps a run."""
