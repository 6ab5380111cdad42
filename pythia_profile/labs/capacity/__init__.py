"""How many bits a model holds, and how many its profile says it holds."""
