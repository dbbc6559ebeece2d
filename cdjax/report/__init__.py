"""Floor 5: figures and the report page."""
