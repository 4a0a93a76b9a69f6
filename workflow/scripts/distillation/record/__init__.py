"""Records: digests of code, provenance, checkpoints, files written whole."""
