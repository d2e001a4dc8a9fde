"""Files of a package next to `model.safetensors`: the network for programs that do not know our code."""
