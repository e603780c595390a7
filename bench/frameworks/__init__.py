"""G14: what the frameworks spend around the same call of the same engine."""
