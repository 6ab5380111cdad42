"""Work that runs in processes: what a machine has, and how units are handed out."""
