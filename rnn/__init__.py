"""Recurrent nets that read an image as a sequence: what they share (sequence_classifier.py), one file per paper."""
