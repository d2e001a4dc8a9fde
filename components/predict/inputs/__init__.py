"""A scene as the network's inputs, and whether the model fits it."""
