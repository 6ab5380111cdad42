"""Which sequences models give back word for word, how often read, and at which size."""
