"""GPT-NeoX's index maps by a plain loop over documents, without numpy.

Random numbers are Python's own Mersenne twister, brought into the state that numpy's
`RandomState(seed)` starts from, and drawn as numpy's shuffle draws them: the last place first, a
partner for each by masking 32 bits and drawing again while it is too large.
"""

import random


class Twister:
    """The random numbers of `numpy.random.RandomState(seed)`."""

    def __init__(self, seed):
        words = [seed & 0xFFFFFFFF]
        for i in range(1, 624):
            last = words[-1]
            words.append((1812433253 * (last ^ (last >> 30)) + i) & 0xFFFFFFFF)
        self._random = random.Random()
        self._random.setstate((3, (*words, 624), None))

    def _up_to(self, top):
        mask = (1 << top.bit_length()) - 1
        while (drawn := self._random.getrandbits(32) & mask) > top:
            pass
        return drawn

    def below(self, stop):
        """`randint(stop)`."""
        return self._up_to(stop - 1)

    def choice(self, size, count):
        """`choice(size, count, replace=False)`."""
        items = list(range(size))
        self.shuffle(items)
        return items[:count]

    def shuffle(self, items):
        for i in range(len(items) - 1, 0, -1):
            j = self._up_to(i)
            items[i], items[j] = items[j], items[i]


def split_bounds(split, documents):
    """Bounds of the train, valid and test documents, as a loop over the parts."""
    weights = [float(part) for part in split.split(",")]
    bounds = [0]
    for weight in weights:
        bounds.append(bounds[-1] + round(weight / sum(weights) * float(documents)))
    excess = bounds[-1] - documents
    return [0, *(bound - excess for bound in bounds[1:])]


def index_maps(sizes, seed, samples, length, low=0, high=None, megatron=False):
    """Document, sample and shuffle index, as lists; of documents `low` to `high`."""
    read = range(low, len(sizes) if high is None else high)
    total = sum(sizes[document] for document in read)
    epochs = 1
    while (epochs * total - 1) // length < samples:
        epochs += 1
    available = (epochs * total - 1) // length
    before = ((epochs - 1) * total - 1) // length
    apart = megatron and epochs > 1 and samples - before < int(0.80 * ((total - 1) // length))
    rng = Twister(seed)
    documents = []
    for part in [epochs - 1, 1] if apart else [epochs]:
        listed = [document for _ in range(part) for document in read]
        rng.shuffle(listed)
        documents += listed
    starts = [(0, 0)]
    place, offset = 0, 0
    for _ in range(available):
        missing = length  # tokens to walk on, from the first of this sample to that of the next
        while missing >= sizes[documents[place]] - offset:
            missing -= sizes[documents[place]] - offset
            place, offset = place + 1, 0
        offset += missing
        starts.append((place, offset))
    parts = [range(before), range(before, available)] if apart else [range(available)]
    shuffle = []
    for part in parts:
        listed = list(part)
        rng.shuffle(listed)
        shuffle += listed
    return documents, starts, shuffle


def stream(sizes, documents):
    """Every token of the stream as (document, offset)."""
    return [(document, i) for document in documents for i in range(sizes[document])]


def rows_with_places(sizes, seed, samples, length):
    """Every row as a list of (place in the document list, document, offset)."""
    documents, _, shuffle = index_maps(sizes, seed, samples, length)
    tokens = [(p, d, i) for p, d in enumerate(documents) for i in range(sizes[d])]
    return [tokens[k * length : k * length + length + 1] for k in shuffle]


def rows(sizes, seed, samples, length):
    """Every row of the training order, as a list of its (document, offset) tokens."""
    documents, _, shuffle = index_maps(sizes, seed, samples, length)
    tokens = stream(sizes, documents)
    return [tokens[k * length : k * length + length + 1] for k in shuffle]
