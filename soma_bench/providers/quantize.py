"""Deriving further quantizations of the embedded model, for tests and demonstrations.

The published file has Q4_1 weights, and nothing derived from it can be better than that: such files
differ in size, speed and rounding, which is what a sweep needs to be exercised, and say nothing
about the model that its makers trained. So each is marked synthetic, in its sidecar and in its own
header. K- and IQ-quantizations cannot be made: gguf-py reads them and does not write them.
"""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from soma_bench.errors import ConfigError
from soma_bench.files import file_digest
from soma_bench.providers.embedded import (
    DERIVABLE,
    FAMILY,
    PUBLISHED,
    PUBLISHED_DIGEST,
    SOURCE_KEY,
    SYNTHETIC_KEY,
    ModelFile,
    describe,
    find,
)
from soma_bench.providers.workspace import Outcome, Report, no_report, put_in_place, workspace
from soma_bench.settings import models_dir

if TYPE_CHECKING:
    from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter
    from gguf.gguf_reader import ReaderTensor

DEFAULT_QUANTIZATIONS = ("Q8_0", "Q5_1", "Q4_0", "F16")

_PUBLISHED_WEIGHTS = "Q4_1"
_ROWS = 4096
"""Rows of a tensor that are held as 32-bit floats at a time, so that memory stays small."""


def quantize(
    names: Sequence[str] = DEFAULT_QUANTIZATIONS,
    directory: Path | None = None,
    *,
    report: Report = no_report,
) -> tuple[Outcome, ...]:
    """Derive the named quantizations from the published file, those that are not there yet.

    Args:
        names: of `DERIVABLE`, in either case.
        directory: the models folder (default: `settings.models_dir`).
        report: told how far it is.

    Raises:
        ConfigError: a name is not derivable, the published file is damaged, a file that is not ours
            stands in the way, the folder cannot be written, or the disk is too full.
        ProviderError: (``model_missing``) the published file is not there.
    """
    wanted = _checked(names)
    folder = directory or models_dir()
    source = find(PUBLISHED, folder)
    origin = _origin(source.digest)
    missing = _missing(wanted, folder, origin)
    if missing:
        _require_published(source)
        with workspace(folder, _needed_bytes(source, missing), report) as work:
            missing = _missing(wanted, folder, origin)  # another process may have made some
            made = {name: work / name for name in missing}
            derive(source.path, made, origin=origin, report=report)
            for name, path in made.items():
                put_in_place(path, _target(folder, name))
    return tuple(
        Outcome(model=describe(_target(folder, name)), written=name in missing) for name in wanted
    )


def derive(
    source: Path, targets: Mapping[str, Path], *, origin: str, report: Report = no_report
) -> None:
    """Write one file for each quantization, reading and decoding every tensor of the source once.

    Tensors that are not in the source's main quantization (norms in F32, the embedding in Q8_0)
    stay as they are, as the published recipe has them; in an F16 file only the norms do.
    The same source gives the same bytes.

    Args:
        source: a GGUF file whose main quantization is Q4_1.
        targets: where to write, by quantization.
        origin: what the files say of where they come from.
        report: told how many of the source's bytes are done.
    """
    from gguf import GGUFReader, GGUFWriter

    reader = GGUFReader(source)
    architecture = reader.fields["general.architecture"].contents()
    total = sum(int(tensor.n_bytes) for tensor in reader.tensors)
    with ExitStack() as stack:
        writers = {}
        for name, path in targets.items():
            writers[name] = stack.enter_context(closing(GGUFWriter(path, architecture)))
            _write_front(writers[name], reader, name, origin)
        done = 0
        for tensor in reader.tensors:
            for name, weights in _converted(tensor, tuple(targets)).items():
                _write_weights(writers[name], weights)
            done += int(tensor.n_bytes)
            report("deriving " + ", ".join(targets), done, total)


def _checked(names: Sequence[str]) -> tuple[str, ...]:
    for given in names:
        name = given.upper()
        if name == _PUBLISHED_WEIGHTS:
            raise ConfigError(
                f"{name} is how the model is published, not derived; run: soma-bench models pull"
            )
        if name not in DERIVABLE:
            raise ConfigError(
                f"quantization {given!r} cannot be made: gguf-py writes no K- or IQ-quantizations; "
                f"possible: {', '.join(DERIVABLE)}"
            )
    return tuple(dict.fromkeys(given.upper() for given in names))


def _origin(source_digest: str) -> str:
    return f"derived from {PUBLISHED} ({source_digest}) by gguf-py"


def _target(folder: Path, name: str) -> Path:
    return folder / f"{FAMILY}-{name.lower()}.gguf"


def _missing(wanted: Sequence[str], folder: Path, origin: str) -> tuple[str, ...]:
    """The wanted quantizations that are not there, or were derived from something else."""
    missing = []
    for name in wanted:
        path = _target(folder, name)
        if not path.exists():
            missing.append(name)
            continue
        model = describe(path)
        if not model.synthetic:
            raise ConfigError(
                f"{path}: is in the way and was not made by soma-bench; rename or remove it"
            )
        if (model.source, model.quantization) != (origin, name):
            missing.append(name)
    return tuple(missing)


def _require_published(source: ModelFile) -> None:
    """Nothing is derived from bytes that are not the published ones, whatever a sidecar says."""
    if file_digest(source.path) != PUBLISHED_DIGEST:
        raise ConfigError(
            f"{source.path}: is not the published file (its SHA-256 differs); run: soma-bench models pull"
        )


def _needed_bytes(source: ModelFile, wanted: Sequence[str]) -> int:
    """Free space that the files will take: the source's, by the ratio of bits per weight."""

    def bits(name: str) -> float:
        block, block_bytes = _size_of_block(name)
        return 8 * block_bytes / block

    ratios = (max(1.0, bits(name) / bits(_PUBLISHED_WEIGHTS)) for name in wanted)
    return int(source.size_bytes * sum(ratios))


def _size_of_block(name: str) -> tuple[int, int]:
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    block, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType[name]]
    return block, block_bytes


def _kind_in(name: str, kind: GGMLQuantizationType) -> GGMLQuantizationType:
    """What a tensor of this kind becomes in the file of that quantization."""
    from gguf import GGMLQuantizationType

    if kind == GGMLQuantizationType.F32:
        return kind
    if name == "F16" or kind == GGMLQuantizationType[_PUBLISHED_WEIGHTS]:
        return GGMLQuantizationType[name]
    return kind


def _write_front(writer: GGUFWriter, reader: GGUFReader, name: str, origin: str) -> None:
    """Everything before the weights: the source's entries with ours, and the place of each tensor."""
    from gguf import LlamaFileType
    from gguf.quants import quant_shape_to_byte_shape

    for key, field in reader.fields.items():
        # The reader's own figures, and what the writer has entered or is about to.
        if key.startswith("GGUF.") or key in {"general.architecture", "general.file_type"}:
            continue
        inner = field.types[-1] if len(field.types) > 1 else None
        writer.add_key_value(key, field.contents(), field.types[0], inner)
    writer.add_file_type(LlamaFileType[f"MOSTLY_{name}"].value)
    writer.add_bool(SYNTHETIC_KEY, True)
    writer.add_string(SOURCE_KEY, origin)
    for tensor in reader.tensors:
        kind = _kind_in(name, tensor.tensor_type)
        shape = [int(size) for size in reversed(tensor.shape)]
        size_bytes = math.prod(quant_shape_to_byte_shape(shape, kind))
        # Any dtype but uint8: the writer would take the shape for one in bytes.
        writer.add_tensor_info(tensor.name, shape, np.dtype(np.float32), size_bytes, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()


def _converted(tensor: ReaderTensor, names: Sequence[str]) -> dict[str, np.ndarray[Any, Any]]:
    """One tensor's weights as each file has them."""
    from gguf import quants

    kinds = {name: _kind_in(name, tensor.tensor_type) for name in names}
    changed = {name: kind for name, kind in kinds.items() if kind != tensor.tensor_type}
    parts: dict[str, list[np.ndarray[Any, Any]]] = {name: [] for name in changed}
    for start in range(0, len(tensor.data) if changed else 0, _ROWS):
        rows = quants.dequantize(tensor.data[start : start + _ROWS], tensor.tensor_type)
        for name, kind in changed.items():
            parts[name].append(quants.quantize(rows, kind))
    return {name: np.concatenate(parts[name]) if name in parts else tensor.data for name in names}


def _write_weights(writer: GGUFWriter, weights: np.ndarray[Any, Any]) -> None:
    try:
        writer.write_tensor_data(weights)
    except OSError as error:
        if error.errno is None:
            # numpy reports a short write without its cause; on a file there is only the one.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        raise
