"""The classic convolutional nets: one shared loop (classifier.py), one paper a file."""
