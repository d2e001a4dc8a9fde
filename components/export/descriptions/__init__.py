"""What a package says about itself: card, STAC item and a runnable example."""
