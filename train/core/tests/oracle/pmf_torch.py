#!/usr/bin/env python3
"""Matrix factorisation in PyTorch, for `pmf_torch.json`: 200 steps of torch.optim.SGD(nesterov=True) on a small fixed set.

usage: python3 pmf_torch.py > pmf_torch.json      (made with torch 2.15.0, numpy 2.4.6, Python 3.11; float32, CPU)

Each case: batches of unequal size in a fixed order, two batches a step. Loss of a rating: (r - y)^2 + l2 * (the squared
norms of the two rows and biases). `sum`: the step's loss is the sum of the batches' means; `mean`: the mean over all rows.
"""
import json
import numpy as np
import torch

N_USERS, N_ITEMS, STEPS, STEP_BATCHES = 12, 9, 200, 2


def case(name, n_factors, biases, l2, learning_rate, momentum, reduce, seed):
    rng = np.random.default_rng(seed)
    batches = []
    for size in (10, 11, 12, 10, 11, 12, 7):
        pairs = rng.choice(N_USERS * N_ITEMS, size, replace=False)
        pairs.sort()                       # grouped by user
        batches.append([[int(p // N_ITEMS), int(p % N_ITEMS), float(np.float32(rng.integers(1, 11) / 2 - 3.5))] for p in pairs])
    start = [(rng.standard_normal((n, n_factors)) * 0.1).astype(np.float32) for n in (N_USERS, N_ITEMS)]
    parameters = [torch.nn.Parameter(torch.tensor(a)) for a in start]
    if biases:
        parameters += [torch.nn.Parameter(torch.zeros(n)) for n in (N_USERS, N_ITEMS)]
    optimiser = torch.optim.SGD(parameters, lr=learning_rate, momentum=momentum, nesterov=momentum > 0)
    losses = []
    for step in range(STEPS):
        chosen = [batches[(step * STEP_BATCHES + j) % len(batches)] for j in range(STEP_BATCHES)]
        rows = sum(len(b) for b in chosen)
        optimiser.zero_grad()
        loss, squared = 0.0, 0.0
        for batch in chosen:
            u = torch.tensor([r[0] for r in batch]); i = torch.tensor([r[1] for r in batch])
            y = torch.tensor([r[2] for r in batch])
            p, q = parameters[0][u], parameters[1][i]
            out = (p * q).sum(1)
            norms = (p * p).sum(1) + (q * q).sum(1)
            if biases:
                bu, bi = parameters[2][u], parameters[3][i]
                out = out + bu + bi
                norms = norms + bu * bu + bi * bi
            error = (out - y) ** 2
            total = (error + l2 * norms).sum()
            loss = loss + total / (len(batch) if reduce == "sum" else rows)
            squared += float(error.sum().detach())
        loss.backward()
        optimiser.step()
        losses.append(squared / rows)
    final = [p.detach().numpy().astype(float).ravel().tolist() for p in parameters]
    return dict(name=name, n_users=N_USERS, n_items=N_ITEMS, n_factors=n_factors, biases=biases, l2=l2,
                learning_rate=learning_rate, momentum=momentum, reduce=reduce, step_batches=STEP_BATCHES,
                start_users=start[0].astype(float).ravel().tolist(), start_items=start[1].astype(float).ravel().tolist(),
                batches=batches, losses=losses, users=final[0], items=final[1],
                user_biases=final[2] if biases else [], item_biases=final[3] if biases else [])


torch.set_num_threads(1)
print(json.dumps([
    case("plain", 4, False, 0.0, 0.1, 0.8, "sum", 1),
    case("biases and l2", 5, True, 0.02, 0.08, 0.8, "sum", 2),
    case("mean", 3, True, 0.01, 0.2, 0.8, "mean", 3),
    case("no momentum", 9, False, 0.05, 0.1, 0.0, "sum", 4),
]))
