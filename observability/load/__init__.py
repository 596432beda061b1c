"""Load: requests from a stranger at the public edge, at a rate that does not wait for answers."""
