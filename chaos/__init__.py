"""Kills the service at every step and lets an independent witness look for what went wrong. Never shipped.

`python -m chaos run` drives the real handlers through PgBouncer against a real PostgreSQL and a real broker while it kills,
freezes, cuts and repeats; `python -m chaos mutants` shows that it would notice. In reading order:

plan.py, clients.py          what the clients do and which fault meets which invocation, all drawn from one seed
environments.py, zygote.py   Lambda environments as forked processes; crash.py and gateway.py are what is put into them
servers.py, outages.py       the servers, and what befalls them
crash_points.py              SIGKILL and cut connections at every network write in turn, for every kind of invocation
quiet.py                     the quiet period after which nothing may be left undone
topic.py, evidence.py        what is on the topic, in the tables, in the gateway's ledger and in the clients' hands
oracle.py                    the witness: compares these four, and shares no code with the service
mutants.py                   seeded defects, each of which must be caught

What a seed replays: the clients' requests, who repeats and overlaps what, the fault of each invocation, the outages, and the
gateway's outcomes (scenario tokens and ids are drawn from it). What it does not replay: the scheduling of processes and
threads, hence which of two overlapping requests wins, and at which instruction a random kill lands.

What it does not show: SIGKILL is not a power cut (PostgreSQL runs without fsync here), PgBouncer is not RDS Proxy, and a clock
that jumps is not tried, though the environments' clocks differ by up to a second.
"""
