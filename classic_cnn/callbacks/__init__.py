"""What watches a classifier's training or changes how it is tested."""
