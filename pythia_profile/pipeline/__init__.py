"""The stages of a study, and what each reads and writes."""
