"""A producer and a worker in Python, with psycopg 3. They only call functions: there is
no library for awa, and none is needed.

    python3 client.py            a worker waits, three jobs are enqueued, it works, ends
    python3 client.py --pooled   the same behind a pooler in transaction mode
"""

import select
import sys
from datetime import timedelta

import psycopg
from psycopg.types.json import Jsonb

POOLED = "--pooled" in sys.argv


def connect():
    # A pooler in transaction mode may not know the statements that a driver prepared.
    return psycopg.connect(autocommit=True, prepare_threshold=None if POOLED else 5)  # the PG* variables


def sign_up(conn, name):
    """A job commits with the rows it is about."""
    with conn.transaction():
        conn.execute("insert into users (name) values (%s)", [name])
        conn.execute(
            "select awa.enqueue('welcome', %s, queue => 'mail', max_attempts => 3, deadline => %s)",
            [Jsonb({"name": name}), timedelta(minutes=5)])


def welcome(args):
    if args["name"] == "Nobody":
        raise ValueError("nobody to welcome")
    print(f"Welcome, {args['name']}!")


HANDLERS = {"welcome": welcome}


def work(conn, queue):
    """Claim, handle, finish: each a transaction of its own. Returns how many jobs."""
    # The receipt is text to this client, and goes back as it came.
    jobs = conn.execute(
        "select receipt::text, kind, args"
        " from awa.claim(%s, max_jobs => 10, worker => 'python', lease => '1 minute')",
        [queue]).fetchall()
    done = []
    for receipt, kind, args in jobs:
        try:
            HANDLERS[kind](args)
            done.append(receipt)
        except Exception as err:
            state, = conn.execute(
                "select awa.fail(%s::text::awa.receipt, error => %s)", [receipt, str(err)]).fetchone()
            print(f"{kind} failed: {err}; it is {state}")
    # One statement completes the batch, and tells what others closed meanwhile.
    for stale in conn.execute("select * from awa.complete_many(%s::text[]::awa.receipt[])", [done]):
        print(f"job {stale[2]} was done by another worker")
    return len(jobs)


def listen(conn, queue):
    """From now on whoever enqueues into the queue wakes this session."""
    conn.add_notify_handler(lambda note: print(f"woken for {note.payload}"))
    conn.execute("listen awa")
    conn.execute("select awa.start_waiting(%s)", [[queue]])


def pending(conn, queue):
    return conn.execute("select available from awa.queue_counts(%s)", [queue]).fetchone()[0]


with connect() as producer, connect() as worker:
    producer.execute("create table if not exists users (name text)")
    if not POOLED:
        listen(worker, "mail")
    work(worker, "mail")  # what was there before it waited
    with producer.transaction():
        for name in "Ada", "Grace", "Nobody":
            sign_up(producer, name)
    while pending(producer, "mail"):
        if not POOLED:
            select.select([worker], [], [], 1)  # a notification, or a second has passed
        work(worker, "mail")
    completed, retryable = producer.execute(
        "select completed, retryable from awa.queue_counts('mail')").fetchone()
    print(f"completed: {completed}, to be retried: {retryable}")
