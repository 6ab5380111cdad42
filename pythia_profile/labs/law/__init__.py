"""How what adapters learn by heart grows with rank and length, and when recall is exact."""
