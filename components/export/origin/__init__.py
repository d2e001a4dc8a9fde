"""What a package was made of and from: bills of materials and the in-toto statement."""
