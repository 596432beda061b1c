"""Events that are stored in the transaction they tell of, delivered at least once, and applied once."""
