"""From ATT(g, c) to what may be said of it: draws, bands, aggregates, tests, sensitivity, power."""
