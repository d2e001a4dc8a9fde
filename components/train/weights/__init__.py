"""The weights that a training starts from: random, pretrained, or those of an earlier model."""
