"""Click-through-rate models over everything a person ever did: DIEN, MIMN, SIM, ENCODE, DGIN.

Importing the package selects Keras 2 (`tf_keras`) for `tf.keras`, which tensorflow-recommenders
needs. TensorFlow itself is imported by the modules that use it, so that preparing data does not
pay for it.
"""

import os
import sys

os.environ["TF_USE_LEGACY_KERAS"] = "1"  # assignment, not setdefault: a stray "0" must not win
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # read when TensorFlow is first imported

_tensorflow = sys.modules.get("tensorflow")
# Keras 3 has a `version` attribute and Keras 2 has none: its presence means that somebody touched
# tf.keras before the line above could take effect.
if _tensorflow is not None and hasattr(getattr(_tensorflow, "keras", None), "version"):
    raise ImportError(
        "dgin_tf needs tf.keras to be Keras 2, but Keras 3 was loaded first; import dgin_tf before "
        "using tf.keras (or set TF_USE_LEGACY_KERAS=1), and in a notebook restart the kernel."
    )

__version__ = "0.6.0"
