"""What this library costs beside its rivals: ``python -m benchmarks run``, ``report``, ``compare``, ``list`` and ``own``; ``--help`` tells more.

Every workload is a module of ``benchmarks.workloads`` that says what it measures, against whom, and what would be good. All of a run
share one real S3 server, a versitygw process on a loopback port of its own, and one Alluxio, which starts when the first of them needs it; each has a
bucket of its own. All of it is gone afterwards.

How it is measured:

- Each way of doing the work lives in a process of its own, so that CPU seconds and peak memory are its own. Clients are opened and warmed up
  outside the clock.
- The ways take turns, round by round, each round beginning with another one. A ratio is the median of the ratios of each round.
- Requests and bytes are counted in a pass of their own, by a front at the server's door, and never while the clock runs. In that pass every way
  also shows its bytes' checksum, and all must be the same.
- Workloads named ``…-std`` run before an emulated S3: the front waits, and lets bytes through, as S3 does. Those of minutes are counted, checked
  and timed at once, as everything goes through the front anyway. The hot tier is never emulated: it is the real Alluxio.
"""
