"""LightningDataModules: MNIST, Fashion-MNIST, images of one's own and others, as uint8 tensors that stay in memory."""
