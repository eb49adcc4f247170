"""The model: encoders, generator, losses, generation, and the folders that they are kept in."""
