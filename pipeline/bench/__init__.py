"""The commands of `mobanet bench`: each prints ratios measured in one run, on whatever machine it is given."""
