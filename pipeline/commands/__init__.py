"""The commands of `mobanet`, one module per topic."""
