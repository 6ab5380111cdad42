"""Training small models: the loop, generated languages, and interventions that undo themselves."""
