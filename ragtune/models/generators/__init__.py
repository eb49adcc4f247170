"""Generators: one class per family of language models, behind the few questions that retrieval asks of them."""
