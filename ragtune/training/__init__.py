"""Fine-tuning: from tokenised pairs, a knowledge base and a base model to a model that answers better."""
