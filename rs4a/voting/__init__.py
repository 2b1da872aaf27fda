"""Votes of a net on noisy copies.

The algorithm, and the module of each line::

    for each input x:                                                       source
        key = hash(bytes of x, seed)                                        noises.streams
        for each phase in (selection, estimation):                          plans
            for each block of noisy copies within the budget:               blocks
                noise = draws of a generator with (key, phase, block)       blocks
                join blocks to full batches                                 batches
                scores = net(batch)                                         voters
                counts[x] += class with the largest score of each row       tally
            where the bound may stop, drop inputs that are decided          sequential
    return the counts of both phases

`stopping` decides which inputs need more votes. `voters` runs the inner loops in threads,
`workers` in other processes or on other machines. `store` keeps counts on disk.
`batch_independence` checks that the net answers each input by itself. `batch_size` finds
the largest batch size that pays off.
"""
