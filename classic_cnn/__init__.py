"""The classic convolutional nets: the loop that they share (classifier.py), one file per paper."""
