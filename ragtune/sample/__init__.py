"""The little world of the offline demo: true facts, questions about them, and tiny base models that can read."""
