"""Where token rows are kept: Megatron stores, shards, slices of files, local or on a hub."""
