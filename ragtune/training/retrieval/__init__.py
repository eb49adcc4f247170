"""Searches of a training step: direct, by one process for all, ahead of the step, by Ray actors."""
