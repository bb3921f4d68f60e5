"""Benchmarks: the C limit, mcastfast and the peers that users would pick, all in the same run.

The method. All that is compared is measured together: round after round, every contestant has one turn, in an order
that is shuffled each time (a fixed order favours whoever comes after a light neighbour). A turn fills a socket with
datagrams and then times the drain alone, so that nothing else runs. The cost shown is the median of a contestant's
turns; a ratio is the median of the ratios within each round, so that a machine whose speed changes meanwhile changes
both sides. What was offered, received and dropped stands beside each cost. A turn that loses a datagram is taken again,
three times at most before the run fails.

`make bench` prints one table; `--benchmark-json=FILE` keeps it and `python -m bench.report FILE` prints it again. With
`--benchmark-disable` every contestant has one short turn: that is the smoke test. No figure passes or fails anything.
"""
