"""From a raw log to records: readers, stages, engines. Needs no TensorFlow."""

from dgin_tf.commands.start_up import end_quietly_on_interrupt

end_quietly_on_interrupt()  # before anything else is imported
