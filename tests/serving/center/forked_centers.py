"""Starts interest centers quickly: a process that has imported everything forks one for each line.

What is forked, and killed, is a whole center: it loads its model, opens store, offset, events and dead
letters, and reads on. With the argument `bundle` it is the command's own `main` on an exported model;
only the imports are done before, and TensorFlow has run nothing yet in this process, so that its
threads are the child's own. With `halving` the model is a few lines of numpy and everything else the
same, which takes milliseconds to start.
"""

import argparse
import json
import os
import signal
import sys

KINDS = ("halving", "bundle")


def import_kind(kind):
    """Returns what runs a center of a kind, given its flags; it returns or exits as the center does."""
    if kind == "halving":
        return run_halving
    import dgin_tf.serving.center.interest_center
    import dgin_tf.serving.center.snapshots
    import dgin_tf.serving.center.state_updates  # noqa: F401
    from dgin_tf.commands import command_line
    from experiments import interest_center

    def run_command(arguments):
        sys.argv = ["interest_center", *arguments]
        command_line.run(interest_center.main)

    return run_command


def run_halving(arguments):
    """What the command does, with the model of `following`."""
    from dgin_tf.serving.center.dead_letters import DeadLetters
    from dgin_tf.serving.center.event_sources import GrowingFile
    from dgin_tf.serving.center.events import EventParser
    from dgin_tf.serving.center.interest_center import InterestCenter, consume
    from dgin_tf.serving.center.user_states import UserStates
    from dgin_tf.stores.addresses import open_store
    from tests.serving.center.following import CATALOGUE, METADATA, SCHEMA, Halving

    parser = argparse.ArgumentParser()
    for name in ("export_dir", "events", "store", "dead_letters", "offset_file"):
        parser.add_argument(f"--{name}", default="")
    parser.add_argument("--batch_events", type=int)
    parser.add_argument("--acknowledge_seconds", type=float)
    parser.add_argument("--follow", action="store_true")
    flags = parser.parse_args(arguments)
    with open_store(flags.store) as store:
        states = UserStates(store, METADATA)
        letters = DeadLetters(flags.dead_letters)
        center = InterestCenter(Halving(), states, EventParser(SCHEMA, CATALOGUE), letters)
        offset = flags.offset_file or f"{flags.events}.halving.offset"
        source = GrowingFile(flags.events, offset, flags.follow)
        sys.stderr.write("halving follows events\n")
        sys.stderr.flush()
        settings = flags.batch_events, flags.acknowledge_seconds
        consume(center, source, lambda: False, *settings)
        sys.stderr.write(f"{center.counts}\n")


def main():
    """For each line, a list of flags and a log: the center's process id, then how it ended."""
    run = import_kind(sys.argv[1])
    for line in sys.stdin:
        child = os.fork()
        if not child:
            *arguments, log = json.loads(line)
            descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            os.close(0)
            run(arguments)
            sys.exit()
        try:
            sys.stdout.write(f"{child}\n")
            sys.stdout.flush()
            status = os.waitpid(child, 0)[1]
        except BrokenPipeError:
            os.kill(child, signal.SIGKILL)
            return
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
