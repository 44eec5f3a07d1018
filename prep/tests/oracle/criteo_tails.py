#!/usr/bin/env python3
"""Fitted the tails of the token columns in src/generate/criteo/columns.rs. Python 3.11 with numpy 2; two minutes.

The three most frequent tokens have their real shares. Rank r, from 3, has the weight (r - 3 + shift)^-exponent, and a share
`even` of the tail is spread evenly over the vocabulary. For every shift of a grid the exponent is chosen by bisection so that
as many different tokens are expected in 10,000 rows as the real log has; for vocabularies of millions also `even`, so that the
number in all 45,840,617 rows is met. Of the shifts the one is taken whose fourth token is just rarer than the third.
Prints: column, vocabulary, shift, exponent, even, expected / real number in 10,000 and in all rows, share of 4th over 3rd.
"""
import numpy as np

ROWS = 45_840_617
# column, missing, distinct in 10,000 rows, three shares, distinct in all rows
REAL = """
C1 .000 175 .500 .172 .084 1460
C2 .000 386 .123 .065 .047 583
C3 .036 5520 .049 .034 .028 10131227
C4 .036 4032 .076 .064 .035 2202608
C5 .000 56 .666 .154 .064 305
C6 .133 7 .530 .224 .142 24
C7 .000 3184 .011 .009 .008 12517
C8 .000 93 .589 .170 .077 633
C10 .000 2986 .276 .011 .010 93145
C11 .000 2084 .020 .020 .013 5683
C12 .036 5283 .049 .034 .028 8351593
C13 .000 1725 .022 .020 .015 3194
C14 .000 24 .363 .346 .160 27
C15 .000 2035 .019 .015 .012 14992
C16 .036 4723 .049 .034 .028 5461306
C17 .000 9 .430 .133 .127 10
C18 .000 1149 .051 .029 .022 5652
C19 .450 546 .601 .037 .022 2173
C21 .036 5036 .049 .034 .028 7046547
C22 .818 7 .526 .384 .037 18
C23 .000 12 .452 .202 .104 15
C24 .036 2524 .078 .077 .071 286181
C25 .450 39 .328 .199 .113 105
C26 .450 1938 .082 .033 .027 142572
"""


def tail(exponent, shift, vocabulary, share, even):
    """Lengths of groups of neighbouring ranks, and the probability of each of their tokens."""
    first, start = [], 3
    while start < vocabulary:
        first.append(start)
        start += min(max(1, start // 16), vocabulary - start)
    first = np.array(first, float)
    length = np.diff(np.append(first, vocabulary))
    log = np.log(length) - exponent * np.log(first - 3 + (length - 1) / 2 + shift)
    weight = np.exp(log - log.max())
    weight = share * ((1 - even) * weight / weight.sum() + even * length / length.sum())
    return length, weight / length


def distinct(draws, length, each, top):
    return (length * -np.expm1(-draws * each)).sum() + sum(-np.expm1(-draws * share) for share in top)


def bisect(low, high, steps, too_low):
    for _ in range(steps):
        middle = (low + high) / 2
        low, high = (middle, high) if too_low(middle) else (low, middle)
    return (low + high) / 2


def fit(missing, few, top, many):
    share, draws, all_draws = 1 - sum(top), 10_000 * (1 - missing), ROWS * (1 - missing)
    is_large = many > 1_000_000
    best = None
    for factor in (1.1, 1.25, 1.5) if is_large else (1,):
        vocabulary = int(many * factor)
        for shift in np.geomspace(1, 60, 14) if is_large else np.geomspace(0.3, 3000, 50):
            def curve(even):
                exponent = bisect(0, 12, 45, lambda e: distinct(draws, *tail(e, shift, vocabulary, share, even), top) > few)
                return exponent, tail(exponent, shift, vocabulary, share, even)

            even = bisect(0, 0.95, 14, lambda u: distinct(all_draws, *curve(u)[1], top) < many) if is_large else 0.0
            exponent, (length, each) = curve(even)
            found = distinct(draws, length, each, top), distinct(all_draws, length, each, top)
            fourth = each[0] / top[2]
            error = 3 * abs(np.log(found[0] / few)) + abs(np.log(found[1] / many))
            error += 10 * max(0, np.log(fourth / 0.97)) + 0.05 * abs(np.log(fourth / 0.85)) + 0.01 * factor
            if best is None or error < best[0]:
                best = error, vocabulary, shift, exponent, even, found, fourth
    return best[1:]


for line in REAL.split("\n"):
    if line:
        name, *numbers = line.split()
        missing, few, *top, many = map(float, numbers)
        vocabulary, shift, exponent, even, found, fourth = fit(missing, few, top, many)
        counts = f"{found[0]:.0f}/{few:.0f} {found[1]:.0f}/{many:.0f}"
        print(f"{name:4} {vocabulary:9} {shift:6.2f} {exponent:.4f} {even:.4f}  {counts} {fourth:.2f}", flush=True)
