"""Neurons silenced, kept, amplified or cut, and what a model can still do."""
