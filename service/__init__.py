"""The shop: small services, each with one job, written on the kit."""
