"""Trouble on demand: a service that answers late, wrongly or not at all, as it is told, to see what its callers do."""
