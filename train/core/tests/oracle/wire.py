"""Writes three gradients in the format that train/core/src/wire/mod.rs describes, from that description alone.

Needs xxhsum, of xxHash 0.8 (Debian: xxhash). The output stands in train/core/src/wire/tests.rs.
"""

import struct
import subprocess


def closed(content):
    out = subprocess.run(["xxhsum", "-H3"], input=content, capture_output=True, check=True).stdout
    return content + int(out.split()[-1], 16).to_bytes(8, "little")


def pack(bits):
    out = bytearray((len(bits) + 7) // 8)
    for i, bit in enumerate(bits):
        out[i // 8] |= bit << (i % 8)
    return bytes(out)


def split(low, n, ids):
    lower = [(i >> bit) & 1 for i in ids for bit in range(low)]
    higher = [0] * (len(ids) + ((n - 1) >> low))
    for place, i in enumerate(ids):
        higher[(i >> low) + place] = 1
    return pack(lower) + pack(higher)


def bitmap(n, ids):
    return pack([int(i in ids) for i in range(n)])


def listed(n, first, length, count, form):
    return struct.pack("<IIIIB", n, first, length, count, form)


def head(model, factors, flag, rows, loss):
    return b"GMgr" + bytes([1, model, factors, flag]) + struct.pack("<Id", rows, loss)


# 13 numbers, 1000 buckets and the intercept; the second of three slices is 338..676.
ids = [338, 341, 400, 512, 675]
values = [0.5, -0.0, 3.25, -1e30, 1e-40]
lr = head(1, 0, 1, 6250, 0.75) + listed(1014, 338, 338, 5, 5)
lr += split(5, 338, [i - 338 for i in ids]) + struct.pack("<5f", *values)
print(closed(lr).hex())

# 3 factors with biases, 10 users and 4 items, all of them in the slice.
users, items = [0, 2, 3, 7], [0, 1, 2, 3]
pmf = head(2, 3, 1, 7, 1.5) + listed(10, 0, 10, 4, 32) + listed(4, 0, 4, 4, 33)
pmf += bitmap(10, users)
pmf += struct.pack("<16f", *[i + place / 8 for i in users for place in range(4)])
pmf += struct.pack("<16f", *[-i - place / 8 for i in items for place in range(4)])
print(closed(pmf).hex())

# The same users, three of the items, and nine ratings: the place of an item takes two bits.
starts, slots, items = [0, 1, 3, 4], [2, 0, 1, 2, 0, 1, 2, 2, 1], [0, 1, 3]
residuals = b"GMre" + bytes([1, 2, 3, 1]) + struct.pack("<I", 9) + listed(10, 0, 10, 4, 32) + listed(4, 0, 4, 3, 32)
residuals += bitmap(10, users) + bitmap(4, items)
residuals += pack([int(row in starts) for row in range(9)])
residuals += pack([(slot >> bit) & 1 for slot in slots for bit in range(2)])
residuals += struct.pack("<9f", *[row / 4 - 1 for row in range(9)])
print(closed(residuals).hex())
