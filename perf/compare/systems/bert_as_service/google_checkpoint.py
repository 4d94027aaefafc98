"""Writes a TensorFlow checkpoint with Google's names for BERT's arrays. For Python 3.7 and TensorFlow 1.15.

python google_checkpoint.py ARRAYS.npz PREFIX
"""

import sys

import numpy as np
import tensorflow as tf
from google_names import google_name  # beside this file, which runs as a script


def main(arrays, prefix):
    """Write the checkpoint."""
    for name, array in np.load(arrays).items():
        if name.endswith("position_ids"):
            continue
        google, transposed = google_name(name)
        tf.get_variable(google, initializer=tf.constant(array.T if transposed else array))
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        tf.train.Saver().save(session, prefix, write_meta_graph=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
