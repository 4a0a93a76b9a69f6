"""Measures of trained networks and of their attention maps."""
