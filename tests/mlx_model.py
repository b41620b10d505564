"""The embedded model in MLX's form: real weights, small enough to run on any machine.

MLX reads GGUF's Q4_1 and Q8_0 as its own quantization, so nothing is lost on the way. GGUF keeps the
rows of the q and k projections in another order, and the tokenizer as a list: both are put back.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from importlib import resources
from pathlib import Path

from soma_bench.settings import models_dir

NAME = "smollm2-135m-instruct-4bit"
TINY = "smollm2-2-layers-4bit"
"""The same without all but its first two layers: what it says means nothing, but it says it at once."""
_CONTROL = 3
_PARTS = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def mlx_models(embedded: Path) -> Path:
    """A folder with both models in it, made from the embedded one if they are not there yet."""
    root = models_dir() / "mlx-tests"
    for name, layers in ((NAME, None), (TINY, 2)):
        folder = root / name
        if folder.is_dir():
            continue
        root.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=root, prefix=".work-"))
        try:
            _write(embedded / "smollm2-135m-instruct-q4_1.gguf", work, layers)
            work.rename(folder)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return root


def _write(gguf: Path, folder: Path, layers: int | None) -> None:
    import mlx.core as mx

    weights, facts = mx.load(str(gguf), return_metadata=True)

    def number(key: str):
        return facts[f"llama.{key}"].item()

    heads, kv_heads = number("attention.head_count"), number("attention.head_count_kv")
    hidden = number("embedding_length")
    config = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": hidden,
        "num_hidden_layers": layers or number("block_count"),
        "intermediate_size": number("feed_forward_length"),
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "rms_norm_eps": number("attention.layer_norm_rms_epsilon"),
        "vocab_size": number("vocab_size"),
        "max_position_embeddings": number("context_length"),
        "rope_theta": number("rope.freq_base"),
        "tie_word_embeddings": True,
        "quantization": {"group_size": 32, "bits": 4},
        "eos_token_id": facts["tokenizer.ggml.eos_token_id"].item(),
        "soma_bench.synthetic": True,
    }

    def rows_in_order(array, count: int):
        rows, columns = array.shape
        pairs = array.reshape(count, rows // count // 2, 2, columns)
        return pairs.swapaxes(1, 2).reshape(rows, columns)

    renamed = {}
    for name, array in weights.items():
        first, _, rest = name.partition(".")
        if first == "blk":
            layer, part, kind = rest.split(".")
            if int(layer) >= config["num_hidden_layers"]:
                continue
            if part in ("attn_q", "attn_k"):
                array = rows_in_order(array, heads if part == "attn_q" else kv_heads)
            renamed[f"model.layers.{layer}.{_PARTS[part]}.{kind}"] = array
        else:
            place = {"token_embd": "embed_tokens", "output_norm": "norm"}[first]
            renamed[f"model.{place}.{rest}"] = array
    mx.save_safetensors(str(folder / "model.safetensors"), renamed, {"format": "mlx"})
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    _write_tokenizer(facts, folder)


def _write_tokenizer(facts, folder: Path) -> None:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    words = facts["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in facts["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(
        models.BPE(vocab={word: n for n, word in enumerate(words)}, merges=merges)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    kinds = facts["tokenizer.ggml.token_type"].tolist()
    tokenizer.add_special_tokens(
        [
            AddedToken(w, special=True)
            for w, kind in zip(words, kinds, strict=True)
            if kind == _CONTROL
        ]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|im_end|>",
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2))
    template = resources.files("soma_bench.providers").joinpath("templates/chatml-think.jinja")
    (folder / "chat_template.jinja").write_text(template.read_text("utf-8"))
