"""Where inside a model a memorized row is given back: layers, noise, heads."""
