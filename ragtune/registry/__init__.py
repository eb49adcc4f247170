"""Model registries, and the rule by which a version becomes `champion`."""
