"""Votes of a net on noisy copies.

The algorithm, and the module of each line::

    for each input x:                                                       source
        key = hash(bytes of x, seed)                                        noises.streams
        for each phase in (selection, estimation):                          plans
            for each block of noisy copies, as many as the plan asks for:   blocks
                noise = the draws of a generator with (key, phase, block)   blocks
                join blocks to full batches                                 batches
                scores = net(batch)                                         voters
                counts[x] += the class with the largest score of each row   tally
            for each block of noisy copies that the plan asks for:          blocks
    return the counts of both phases

`voters` runs the inner loops in threads, `remote` and `workers` in other processes or on
other machines. `store` keeps counts on disk. `batch_independence` checks that the net
answers each input by itself. `batch_size` finds the largest batch that fits.
"""
