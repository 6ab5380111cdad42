"""What profiles say: learning rate, large from small, seeds, exposure, decay, bits.

Each module has one finding, in pure functions over arrays and estimates; `whole` puts them
together.
"""
