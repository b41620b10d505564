"""A sweep on several machines, by Dask distributed.

The submitting process plans, guards, counts the money and alone writes to the store; workers answer
requests with the models that they have. Each worker runs model after model and takes its next trial
from the common plan, so a fast machine does more of them. A call is pinned to its worker and never
repeated by Dask: when the worker is gone, the trial is simply still to be done, by whoever can.
"""
