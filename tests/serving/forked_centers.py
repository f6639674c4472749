"""Starts interest centers quickly: a process that has imported everything forks one for each line.

What is forked, and killed, is a whole center: it loads the bundle, opens store, offset, events and dead
letters, and runs the command's own `main`. Only the imports are done before; TensorFlow has run nothing
yet in this process, so that its threads are the child's own.
"""

import json
import os
import sys

import dgin_tf  # noqa: F401
import dgin_tf.serving.interest_center
import dgin_tf.serving.snapshots
import dgin_tf.serving.state_updates  # noqa: F401
from dgin_tf import command_line
from experiments import interest_center


def run_center(arguments):
    """Runs the command and exits as it does."""
    log = os.open(arguments.pop(), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.argv = ["interest_center", *arguments]
    command_line.run(interest_center.main)


def main():
    """For each line, a list of flags and a log: the center's process id, then how it ended."""
    for line in sys.stdin:
        child = os.fork()
        if not child:
            run_center(json.loads(line))
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
