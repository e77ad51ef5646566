"""Generative adversarial nets: one shared loop (adversarial.py), one paper per file."""
