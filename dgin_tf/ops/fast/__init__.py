"""Kernels behind the formulas of `dgin_tf.ops`: hand-written gradients and loops for XLA.

Each module has one door, a function with the arguments and the values of a plain loop, which says
above it what was measured. `ops.recurrence.recurrence` is the plain text of `fast.recurrence`, and
`ops.ntm.scan` that of `fast.scan`; tests compare values and gradients.
"""
