"""Files of other runtimes, checked before such a runtime opens them."""
