"""`mobanet ablate`: ablation studies. Trains variants of one training with several seeds, and writes tables."""
