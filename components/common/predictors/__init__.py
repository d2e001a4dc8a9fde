"""A trained network of any format as a function from pixels to logits."""
