"""`mobanet ablate`: the same training with one thing changed at a time, several seeds each, as the table of a paper."""
