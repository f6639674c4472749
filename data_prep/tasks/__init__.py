"""Units of work that an engine runs: read columns, call the stages' functions, write columns.

Every function takes one frozen argument, writes its files whole or not at all, and returns a few JSON
values. None of them knows the number of workers.
"""
