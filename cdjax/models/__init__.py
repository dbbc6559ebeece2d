"""Floor 2: linen modules."""
