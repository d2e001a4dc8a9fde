"""Look at registered versions: find, list, trace, verify, and collect what interrupted uploads left."""
