"""Every setting of a run: its type, default, bounds and help text, each written once. Needs neither torch nor KFP."""
