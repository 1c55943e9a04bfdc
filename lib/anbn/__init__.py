"""Couple artificial neurons of language models with functional brain networks."""

__version__ = "0.1.0"
