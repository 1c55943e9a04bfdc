"""Neurons beside brain networks: synchrony, anchors, encoding, organisation."""
