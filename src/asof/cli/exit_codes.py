"""What each exit code of `asof` means: the one table that commands, tests and the documentation read."""

from __future__ import annotations

DONE = 0
FAILED = 1
USAGE = 2
FOUND = 10
CHANGES = 12
UNEXPECTED = 70
STOPPED = 130
PIPE_CLOSED = 141

EXIT_CODES: dict[int, str] = {
    DONE: "Done.",
    FAILED: "Not done: an error that no other code names, or you said no when asked.",
    USAGE: "The command line is not well formed: an unknown command or option, or a missing value.",
    3: "A definition, the repository or `feature_store.yaml` is not well formed.",
    4: "A request cannot be served: an unknown name, a colliding one, or a missing key or time.",
    5: "Rows were refused; nothing of their batch was written.",
    6: "A source cannot be reached, or does not hold what its definition says.",
    7: "An on-demand function raised, or returned what its schema does not declare.",
    8: "A store, a log, the registry or a file cannot be read or written.",
    9: "A worker stopped, as too many messages could not be used; they are kept as dead letters.",
    11: "A server refused access: unknown credentials, or a role that is missing.",
    FOUND: "It found what needs attention: errors (plan), differences (audit, rebuild), failed checks (doctor) or jobs "
    "(run --once).",
    CHANGES: "There is something to apply (plan --exit-code).",
    UNEXPECTED: "A defect of Asof. Run again with --debug, and report it.",
    STOPPED: "Stopped by Ctrl-C; what was done stands.",
    PIPE_CLOSED: "The reader of the output closed it, as `| head` does.",
}  # fmt: skip
"""Exit code → its meaning. Codes 3 to 9 are those of the errors in `asof.errors`."""
