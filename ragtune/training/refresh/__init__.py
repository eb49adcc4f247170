"""The knowledge base re-embedded in the background of a training."""
