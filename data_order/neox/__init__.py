"""GPT-NeoX's packing: documents and a seed -> which tokens stand in which row."""
