"""Kill the service at every step, and let an independent witness look for errors. We never ship this package.

`python -m chaos run` sends events to the real handlers, which use PgBouncer, a real PostgreSQL and a real broker. Meanwhile it
kills and freezes processes, cuts connections and repeats requests. `python -m chaos mutants` shows that the witness notices
defects. In reading order:

plan.py, clients.py          the clients' requests and each invocation's fault, all drawn from one seed
environments.py, zygote.py   Lambda environments as forked processes; each contains crash.py and gateway.py
servers.py, outages.py       the servers and their outages
crash_points.py              SIGKILL, cuts and late answers at every network write in turn, for every kind of invocation
stale_workers.py             a freeze at every network write in turn, while other workers finish the work
quiet.py                     the quiet period, in which the scheduled functions must finish everything
receiver.py                  where the owners' webhooks go
customer.py                  the customer whom the simulated gateway asks to act
provider.py                  the party behind the gateway's adapter: simulated.py, or stripe_world.py with stripe_front.py, the
                             network and the bad moments in front of it, events.py, which tells of what happened there, and
                             dashboard.py, where others act
topic.py, evidence.py        the evidence: the topic, the tables, the calls of the gateway, its books (books.py, stripe_books.py),
                             the clients' answers, and the receiver's arrivals
oracle.py                    the witness: it compares these six, and shares no code with the service; money.py,
                             acknowledged.py, requested.py, refused.py, received.py, inbox.py, disputed.py and waited.py are its
                             other parts
archive.py, restore.py       a database that is lost and restored to a moment; runbook.py follows docs/operations.md to the end
mutants.py                   seeded defects; the witness must catch each of them

A seed replays the clients' requests, copies and overlaps, the fault of each invocation, the outages, and the gateway's outcomes
(we draw scenario tokens and ids from it). It does not replay the scheduling of processes and threads. So another one of two
overlapping requests may win, and a random kill may land at another instruction.

Limits: SIGKILL is not a power cut (PostgreSQL runs without fsync here), and PgBouncer is not RDS Proxy. The environments' clocks
differ by up to a second, but no clock jumps.
"""
