#!/usr/bin/env python3
"""Wrote ratings.csv: ids out of order and far apart, repeated pairs, odd ratings, bad rows, a blank line. Python 3."""
import random

random.seed(20)
users = random.sample(range(1, 3000), 25) + [0, 65535, 65536, 4294967295]
movies = random.sample(range(1, 200000), 35) + [4294967294, 131072]
lines = ["userId,movieId,rating,timestamp"]
for row in range(600):
    user, movie = random.choice(users), random.choice(movies)
    rating = random.choice(["0.5", "1", "2.0", "3.5", "4.0", "4", "4.5", "5.0", "3.7", "2.333333"])
    lines.append(f"{user},{movie},{rating},{random.randrange(800000000, 1500000000)}")
for row, bad in [(3, "7,8,NaN,9"), (77, ""), (78, "7,8,9"), (300, "7,-8,3.0,9"), (301, "7,8,5.5,9"), (302, "x,8,5,9"), (590, "1,2,3,4,5")]:
    lines.insert(1 + row, bad)
with open("ratings.csv", "w", newline="") as file:
    file.write("\n".join(lines) + "\n")
