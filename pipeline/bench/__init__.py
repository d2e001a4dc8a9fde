"""The commands of `mobanet bench`: each prints ratios measured in one run, so results compare across machines."""
