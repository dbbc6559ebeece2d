"""Floor 6: one small module a command; `main` finds and runs it."""
