"""LightningDataModules: MNIST, Fashion-MNIST and the bundled sample, as uint8 tensors that stay in memory."""
