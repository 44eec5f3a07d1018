#!/usr/bin/env python3
"""Measures of predicted clicks by scikit-learn, for `click_metrics.json`.

usage: python3 click_metrics.py > click_metrics.json      (made with scikit-learn 1.9.1, numpy 2.4.6, Python 3.11)

    [{name, z, labels, log_loss, auc, normalised_entropy, calibration}]

`z` are logits, to be read as float32; `labels` is a text of 0 and 1. The prediction is 1 / (1 + exp(-z)) in float64. Log loss is
in nats, summed exactly from max(z, 0) - z*y + ln(1 + exp(-|z|)), and checked against sklearn.metrics.log_loss on the rows where
|z| < 30, since scikit-learn clips predictions. Normalised entropy (He et al. 2014): log loss over the entropy of the rows' own
share of clicks. Calibration: mean prediction over mean label. null: not defined, since all labels are alike.
"""
import json
import math

import numpy as np
from sklearn.metrics import log_loss, roc_auc_score

rng = np.random.default_rng(4)


def case(name, z, labels, digits=None):
    z = np.asarray(z, float)
    z = (z if digits is None else z.round(digits)).astype(np.float32)
    exact, y = z.astype(float), np.asarray(labels, int)
    terms = np.maximum(exact, 0) - exact * y + np.log1p(np.exp(-np.abs(exact)))
    mean = math.fsum(terms) / len(y)
    small = np.exp(-np.abs(exact))
    p, q = np.where(exact >= 0, [np.ones_like(small), small], [small, np.ones_like(small)]) / (1 + small)
    inside = np.abs(exact) < 30
    both = np.stack([q, p], 1)[inside]
    if inside.any():
        theirs, ours = log_loss(y[inside], both, labels=[0, 1]), math.fsum(terms[inside]) / inside.sum()
        assert abs(theirs - ours) <= 1e-10 * max(1, ours), (name, theirs, ours)
    share = y.mean()
    mixed = 0 < share < 1
    entropy = -(share * math.log(share) + (1 - share) * math.log(1 - share)) if mixed else None
    return dict(
        name=name, z=[float(str(v)) for v in z], labels="".join(map(str, y)), log_loss=mean,
        auc=float(roc_auc_score(y, exact)) if mixed else None,
        normalised_entropy=mean / entropy if mixed else None,
        calibration=math.fsum(p) / int(y.sum()) if share > 0 else None)


def clicks(z):
    return rng.random(len(z)) < 1 / (1 + np.exp(-z))


def drawn(name, z, digits, seen=None):
    return case(name, z, clicks(z if seen is None else seen), digits)


ordinary = rng.normal(-1.1, 1.2, 3000)
steps = np.floor(rng.normal(-1, 1.5, 2000) * 2) / 2
wide = np.concatenate([rng.normal(0, 30, 800).clip(-90, 90), [90, -90, 90, -90, 88.8, -88.8, 0.0, -0.0]])
separated = np.concatenate([rng.uniform(-5, -1, 300), rng.uniform(1, 5, 100)])
unsorted = rng.permutation(400)
order = (np.arange(400) >= 300)[unsorted]
twelve = np.repeat([-0.0, 0.0, 1.0, -1.0], 3)
print(json.dumps([
    case("by hand", [0, 0, 0, 0], [1, 0, 0, 1]),      # ln 2, 1/2, 1, 1
    case("one pair of four is wrong", [-2, 1, 0, 3], [0, 0, 1, 1]),      # AUC 3/4
    drawn("ordinary", ordinary, 4),
    drawn("far too many clicks predicted", ordinary + 2, 4, ordinary),
    drawn("ties", steps, 1),
    drawn("ties, logits without meaning", rng.permutation(steps), 1, steps),
    case("extreme, labels mostly right", wide, (wide + rng.normal(0, 20, len(wide))) > 0, 3),
    case("extreme, labels all wrong", wide, wide <= 0, 3),
    case("constant", np.full(500, -1.0986123), np.arange(500) % 4 == 0),
    case("separated", separated[unsorted], order, 3),
    case("separated the wrong way", -separated[unsorted], order, 3),
    case("one click", rng.normal(-6, 1, 1500), np.arange(1500) == 700, 3),
    case("zeros of both signs", twelve, [1, 0, 0, 1, 1, 0, 1, 0, 1, 0, 0, 1]),
    case("no clicks", [-1, -2, 0.5], [0, 0, 0]),
    case("only clicks", [-1, -2, 0.5], [1, 1, 1]),
], separators=(",", ":")))
