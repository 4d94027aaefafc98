"""Writes the checkpoint beside this file; run with TensorFlow 1.15.5 under Python 3.7.

Saver(sharded=True), which Google's BERT code trains with too, writes a data file for each device.
"""

import os

import numpy as np
import tensorflow as tf

COUNT = np.arange(12).reshape(3, 4)

with tf.Graph().as_default():
    with tf.device("/cpu:0"):
        tf.get_variable("first/float32", initializer=(COUNT / 8).astype(np.float32))
        tf.get_variable("first/float64", initializer=COUNT / 8)
        tf.get_variable("first/scalar", initializer=np.float32(0.5))
        tf.get_variable("first/steps", initializer=np.int64(343))
    with tf.device("/cpu:1"):
        tf.get_variable("second/bfloat16", initializer=tf.cast(COUNT / 8, tf.bfloat16))
        tf.get_variable("second/float16", initializer=(COUNT / 8).astype(np.float16))
        tf.get_variable("second/nothing", initializer=np.zeros((0, 4), np.float32))
        tf.get_variable("second/words", initializer=np.array([b"two", b"words"]))
        tf.get_variable(
            "second/parted",
            shape=(4, 2),
            initializer=tf.ones_initializer(),
            partitioner=tf.fixed_size_partitioner(2),
        )
    with tf.Session(config=tf.ConfigProto(device_count={"CPU": 2})) as session:
        session.run(tf.global_variables_initializer())
        prefix = os.path.join(os.path.dirname(os.path.abspath(__file__)), "model.ckpt")
        tf.train.Saver(sharded=True).save(session, prefix, write_meta_graph=False, write_state=False)
