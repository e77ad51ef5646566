"""Recurrent nets that read an image as a sequence: one shared reader (reader.py), one paper a file."""
