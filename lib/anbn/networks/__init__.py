"""Functional networks of any matrix (samples x units), and how stable they are."""
