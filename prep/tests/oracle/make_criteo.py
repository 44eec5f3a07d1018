#!/usr/bin/env python3
"""Wrote criteo.tsv: 400 raw rows of a click log that need care. Python 3.11, xxhash 4.1.0 (to find tokens that collide).

Missing values everywhere, rows that end in empty fields, a row of nothing but its label; numbers that are negative, or near
-2^63 and 2^63; I9 is always 7, I12 and C22 are always missing. Tokens are of every length that the hash treats in its own way,
some no text at all; the same token stands in several columns; rows 17, 18 and 40 hit one of 1,000,000 buckets more than once.
"""
import random

import xxhash

random.seed(39)
ROWS = 400
LENGTHS = [1, 2, 3, 4, 5, 7, 8, 9, 12, 16, 17, 31, 32, 33, 64, 65, 96, 97, 128, 129, 160, 239, 240, 241, 300, 512, 1024, 1025, 1100]
PLAIN = [byte for byte in range(1, 256) if byte not in b"\t\n\r"]
ODD = [b"NULL", b"NA", b"nan", b"0", b"-", b'"', b'"a', b"a,b", b" ", b" 05db9164", b"\\N", b"05DB9164", "né".encode(), "東京".encode(),
       b"\xff\xfe", b"\xc3", b"\x80\x81", b"#", b"'", b"05db91640"]
odd = iter(ODD + [bytes(random.choice(PLAIN) for _ in range(n)) for n in LENGTHS])


def number(i, j):
    if j == 12 or random.random() < (0.45 if j in (1, 10) else 0.12):
        return b""
    if j == 5:
        return b"%d" % random.choice([2**63 - 1, -(2**63), 2**63 - 12345, -(2**63) + 1, 0, -1, 10**18 + i])
    if j == 9:
        return b"7"
    small = int(random.expovariate(1) ** 3 * 20)
    return b"%d" % (small - 3 if j == 2 else small * 997 if j == 4 else small)


def token(i, j):
    if j == 22 or random.random() < (0.75 if j == 19 else 0.1):
        return b""
    if random.random() < 0.004:
        return next(odd, b"last")
    vocabulary = [3, 20, 1000, 10**6][j % 4]
    return b"%08x" % (random.randrange(vocabulary) * 2654435761 % 2**32)


rows = [[b"%d" % (random.random() < 0.25)] + [number(i, j) for j in range(1, 14)] + [token(i, j) for j in range(1, 27)] for i in range(ROWS)]
for i in range(0, ROWS, 9):
    rows[i][40 - random.randrange(1, 8):] = []
    rows[i] += [b""] * (40 - len(rows[i]))
rows[3][1:] = [b""] * 39
for number, left in enumerate(odd):
    rows[50 + number][14 + number % 21] = left
rows[60][14:] = [b"68fd1e64"] * 26
rows[61][14:] = [b"a"] * 26


def collide(row, columns):
    """Gives `columns` of `row` tokens whose buckets are the same."""
    target = None
    for j in columns:
        n = 0
        while True:
            candidate = b"%08x" % n
            bucket = xxhash.xxh3_64_intdigest(candidate, seed=j) % 1_000_000
            if target is None or bucket == target:
                break
            n += 1
        rows[row][13 + j], target = candidate, bucket


collide(17, [1, 2, 3, 26])
collide(18, [5, 9])
collide(40, [7, 8, 9])
with open("criteo.tsv", "wb") as file:
    file.writelines(b"\t".join(row) + b"\n" for row in rows)
