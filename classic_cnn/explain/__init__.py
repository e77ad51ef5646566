"""What looks into a trained net: deconvnet, occlusion, attribution, and their plots."""
