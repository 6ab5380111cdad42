"""Work that runs in processes: what a machine has, and how units are mapped over it.

A unit is a frozen dataclass that can be pickled; the function that takes it has a name to be
imported by. Where the units run (here: processes of this machine) changes no result.
"""
