"""The commands of `mobanet`, a file per topic."""
