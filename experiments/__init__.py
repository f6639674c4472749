"""Commands that train, evaluate, export and inspect the models; configs and results of the papers."""

import dgin_tf  # noqa: F401  (selects Keras 2 and quiets TensorFlow before any command imports it)
from dgin_tf.commands.quiet_start import quiet_tensorflow
from dgin_tf.commands.start_up import end_quietly_on_interrupt

end_quietly_on_interrupt()  # before anything else is imported
quiet_tensorflow()
