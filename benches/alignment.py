"""Linear CKA by numpy with BLAS: alignment.py X Y WIDTH, two files of float32. Prints the seconds and the answer.

In float64 over blocks of rows, as the aggregate computes it, so that neither side holds the tables in float64.
"""

import sys
import time

import numpy as np

x, y = (np.fromfile(name, dtype=np.float32).reshape(-1, int(sys.argv[3])) for name in sys.argv[1:3])
started = time.perf_counter()
mean_x, mean_y = x.mean(0, dtype=np.float64), y.mean(0, dtype=np.float64)
xx = xy = yy = 0.0
for start in range(0, len(x), 8192):
    a, b = x[start : start + 8192] - mean_x, y[start : start + 8192] - mean_y
    xx, xy, yy = xx + a.T @ a, xy + a.T @ b, yy + b.T @ b
cka = np.sum(xy * xy) / np.sqrt(np.sum(xx * xx) * np.sum(yy * yy))
print(time.perf_counter() - started, cka, np.__version__)
