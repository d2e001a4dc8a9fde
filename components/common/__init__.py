"""What two or more steps share: parameters, errors, facts of the data, the store, windows, metrics, tracking."""
