"""SimHash: vectors as bits, angles as distances between them (Charikar, 2002; ETA and SDIM).

Bit i of a vector's signature says on which side of a random hyperplane it lies: sign(e . r_i). Two
vectors at the angle theta differ in a bit with probability theta / pi, whatever their lengths. 64 bits
are one integer, and the distance of two signatures is an exclusive or and a population count.
"""

import tensorflow as tf

WORD = 64
_BYTE = 8
_GATHER_BITS = 0x0102040810204080


def sides(vectors: tf.Tensor, directions: tf.Tensor) -> tf.Tensor:
    """On which side of each hyperplane a vector lies; a vector on the plane lies below it.

    Args:
      vectors: [..., dim].
      directions: normals of the hyperplanes, [dim, bits].

    Returns:
      bool [..., bits]; all False for a vector of zeros.
    """
    return tf.matmul(vectors, directions) > 0


def pack(bits: tf.Tensor) -> tf.Tensor:
    """Bits as integers, 64 in each.

    Args:
      bits: bool [..., bits], any number of them.

    Returns:
      int64 [..., words], bit i of word w being bit 64 w + i; what is left of the last word is 0.
    """
    count = bits.shape[-1]
    missing = -count % _BYTE
    ones = tf.cast(bits, tf.uint8)
    if missing:
        ones = tf.pad(ones, [[0, 0]] * (len(ones.shape) - 1) + [[0, missing]])
    leading = tf.shape(ones)[:-1]
    ones = tf.reshape(ones, tf.concat([leading, [(count + missing) // _BYTE, _BYTE]], 0))
    # Eight bytes of 0 or 1, read as one integer, meet in its highest byte after one product: sixteen
    # times less memory than a sum of powers of two.
    gathered_bytes = tf.bitcast(tf.bitcast(ones, tf.int64) * _GATHER_BITS, tf.uint64)
    octets = tf.cast(tf.bitwise.right_shift(gathered_bytes, tf.constant(56, tf.uint64)), tf.uint8)
    words = -(-count // WORD)
    missing = words * _BYTE - octets.shape[-1]
    if missing:
        octets = tf.pad(octets, [[0, 0]] * (len(octets.shape) - 1) + [[0, missing]])
    return tf.bitcast(tf.reshape(octets, tf.concat([leading, [words, _BYTE]], 0)), tf.int64)


def hamming(left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    """Number of bits in which packed signatures differ.

    Args:
      left, right: int64 [..., words]; they broadcast against each other.

    Returns:
      int32 [...].
    """
    words = [
        tf.cast(tf.raw_ops.PopulationCount(x=tf.bitwise.bitwise_xor(a, b)), tf.int32)
        for a, b in zip(tf.unstack(left, axis=-1), tf.unstack(right, axis=-1), strict=True)
    ]
    return tf.add_n(words)


def buckets(bits: tf.Tensor, size: int) -> tf.Tensor:
    """Every `size` consecutive bits as one number: the bucket that one hash table files a vector in.

    Args:
      bits: bool [..., tables * size].
      size: tau of SDIM, bits a table, at most 30.

    Returns:
      int32 [..., tables] in [0, 2^size), the first bit counting 1.
    """
    whole = WORD // size * size  # bits of the tables that fit into one word
    parts = []
    for start in range(0, bits.shape[-1], whole):
        part = bits[..., start : start + whole]
        word = pack(part)
        shifted_word = tf.bitwise.right_shift(word, tf.range(0, part.shape[-1], size, tf.int64))
        parts.append(tf.cast(tf.bitwise.bitwise_and(shifted_word, (1 << size) - 1), tf.int32))
    return parts[0] if len(parts) == 1 else tf.concat(parts, axis=-1)
