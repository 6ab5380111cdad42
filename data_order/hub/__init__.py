"""The only HTTP of both packages: ranges and whole files, pins, cache, retry policy."""
