"""Whether every file of a package computes what the network computes."""
