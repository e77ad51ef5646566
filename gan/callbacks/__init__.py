"""What watches a GAN's training."""
