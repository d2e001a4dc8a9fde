"""Whose packages are trusted: signatures of a package, and the key that must have made them."""
