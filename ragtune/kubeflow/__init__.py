"""The pipeline around the boxes: its parameters, and its run on this machine."""
