"""Orders in which one permutation is drawn over all rows: OLMo, OLMo-core, DataDecide, Pico.

Three steps from a row of a file to the step that read it:

    slices.py       token files, cut into rows                    (file, offset) <-> row
    passes.py       a permutation of the rows for every pass      row <-> position <-> step
    rows.py         tokens in the order of reading, for `sample`

    row        0-based place in the list of files, in the order of the configuration
    position   0-based place in the reading order of the run: `row_id` of a study
"""
