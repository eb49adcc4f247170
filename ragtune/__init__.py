"""ragtune fine-tunes retrieval-augmented generation models: the library that the boxes of the pipeline call."""

__version__ = "0.1.0"
