#!/usr/bin/env python3
"""The order of epoch 3 of 8 batches under seed 8, from the definition of the streams alone (see `random`)."""
M, G = (1 << 64) - 1, 0x9E3779B97F4A7C15


def mix(x):
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & M
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & M
    return x ^ (x >> 31)


key = mix((8 + G) & M)
for byte in b"order":
    key = (mix(key ^ byte) + G) & M
key = mix(key ^ mix((3 + G) & M))
drawn = 0


def below(n):
    global drawn
    while True:
        wide = mix((key + G * (drawn + 1)) & M) * n
        drawn += 1
        if (wide & M) >= ((1 << 64) - n) % n:
            return wide >> 64


order = list(range(8))
for i in range(7, 0, -1):
    j = below(i + 1)
    order[i], order[j] = order[j], order[i]
print(order)
