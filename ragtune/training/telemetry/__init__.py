"""Figures of a training under way: curves, throughput, progress lines, the log."""
