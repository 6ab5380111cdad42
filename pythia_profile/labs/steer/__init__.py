"""Which directions of the output embeddings steer a model, and whether memory is one of them."""
