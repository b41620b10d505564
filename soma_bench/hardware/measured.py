"""Samples for a calibration from the trials of a run on this machine."""

from __future__ import annotations

from collections.abc import Iterator

from soma_bench.errors import ConfigError
from soma_bench.hardware.calibrate import Calibration, Sample, calibrate
from soma_bench.hardware.catalogue import Machine, architecture
from soma_bench.hardware.model import Work, bytes_read, prefill_operations
from soma_bench.sweeps.store import Store
from soma_bench.types import Target


def calibrate_on_run(store: Store, run: str, machine: Machine) -> Calibration:
    """Fit a machine's efficiency to a run's quiet trials of local models.

    Raises:
        ConfigError: there is no such run, or its trials are too few or too much alike.
    """
    run_id = store.find_run(run).id
    samples = list(samples_of(store, run_id))
    try:
        return calibrate(samples, machine, source=f"run {run_id}, n = {len(samples)}")
    except ValueError as error:
        raise ConfigError(f"run {run_id}: {len(samples)} usable local trials: {error}") from error


def samples_of(store: Store, run_id: str) -> Iterator[Sample]:
    """A sample for each finished local trial that was not disturbed and whose tokens are known.

    A loading time is kept where the trial loaded its model; it is no part of the trial's total.
    """
    for trial in store.trials(run_id):
        target = Target.parse(trial["target"])
        shape = architecture(target)
        size = trial["identity"].get("weights_bytes")
        tokens = trial["output_tokens"], trial["prompt_tokens"]
        usable = trial["status"] == "done" and not trial["busy"] and target.is_local
        if not usable or shape is None or not size or not all(tokens) or not trial["total_s"]:
            continue
        work = Work(prompt_tokens=trial["prompt_tokens"], output_tokens=trial["output_tokens"])
        # What came from a cache was not computed, though decoding reads its keys and values.
        fresh = Work(
            prompt_tokens=trial["prompt_tokens"] - (trial["cached_tokens"] or 0), output_tokens=0
        )
        yield Sample(
            name=f"{trial['agent']} {trial['target']} {trial['case_id']}",
            bytes_read=bytes_read(size, shape, work),
            prefill_operations=prefill_operations(shape, fresh),
            total_s=trial["total_s"],
            weights_bytes=size,
            load_s=trial["load_s"] if trial["start"] == "cold" else None,
        )
