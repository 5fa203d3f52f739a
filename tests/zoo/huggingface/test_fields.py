"""config.json: every field is read, known to change nothing, or refused by its name."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, GenerationConfig

from transformer_zoo.config import DecoderConfig, EncoderConfig, EncoderDecoderConfig
from transformer_zoo.errors import UserError
from transformer_zoo.zoo.families import FAMILIES
from transformer_zoo.zoo.huggingface.parts import RULES
from transformer_zoo.zoo.huggingface.source import read_config, read_fields

PUBLISHED = json.loads((Path(__file__).parents[1] / "hub_configs.json").read_text("utf-8"))
every_family = pytest.mark.parametrize("family", FAMILIES)


# Where the default is refused, what is not.
NEEDED: dict[str, dict[str, Any]] = {
    "deepseek_v3": {"first_k_dense_replace": 61},
}


def default_fields(family: str) -> dict[str, Any]:
    """config.json as transformers writes it for the default configuration, with nothing left out."""
    values: dict[str, Any] = json.loads(json.dumps(AutoConfig.for_model(family).to_dict()))
    return values | NEEDED.get(family, {})


@every_family
def test_all_that_transformers_writes_is_known(family: str) -> None:
    extra = dict.fromkeys(GenerationConfig._get_default_generation_params(), 7)  # which config.json once had
    extra |= default_fields(family)
    # A file says all of these: `generate` does not ask a family for defaults.
    extra |= dict.fromkeys(("forced_eos_token_id", "bad_words_ids", "suppress_tokens", *RULES))
    config = FAMILIES[family].read(extra)
    # The defaults here are theirs.
    assert config == FAMILIES[family].read({"model_type": family, **NEEDED.get(family, {})})


def other(value: Any) -> Any:
    """Another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value / 2 + 0.125
    if isinstance(value, str):
        return "relu" if value != "relu" else "silu"
    if isinstance(value, list):
        return value[::-1] if value != value[::-1] else [*value[:-1], "sliding_attention"]
    return {**value, "rope_type": "longrope"} if isinstance(value, dict) else 3


@every_family
def test_no_field_is_lost(family: str) -> None:
    known = FAMILIES[family]
    defaults = default_fields(family)
    config = known.read(defaults)
    silent = []
    for name, value in defaults.items():
        if known.ignores(name):
            continue
        try:
            changed = known.read({**defaults, name: other(value)})
        except UserError:
            continue
        if changed == config:
            silent.append(name)
    # Why a field may change nothing here:
    # - Only some families have a use for pad and bos.
    # - A window may be anything where no layer has one.
    # - T5's feed-forward is decided by the fields that are saved beside it.
    # - A start or an end outside the vocabulary, such as the next of Marian's, is ignored.
    # - More dense layers than there are layers are all layers.
    # - ModernBERT has a field for how texts are pooled, but the model here lacks a head for texts.
    # - Where layers are listed, how they are counted changes nothing.
    # - Falcon's first layout ignores a field of its second.
    assert set(silent) <= {
        "classifier_pooling", "first_k_dense_replace",
        "local_attention",  # ModernBERT sees half of it on either side, odd or even
        "pad_token_id", "bos_token_id", "is_decoder", "slow_but_exact", "pretraining_tp", "use_sliding_window",
        "sliding_window", "max_window_layers", "feed_forward_proj", "decoder_start_token_id", "eos_token_id",
        "sliding_window_pattern", "no_rope_layer_interval", "num_kv_heads",
    }  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configurations_mean_what_transformers_takes_them_for(name: str) -> None:
    published = PUBLISHED[name]
    family = FAMILIES[published["model_type"]]
    theirs = type(AutoConfig.for_model(published["model_type"]))(**published)
    modern = json.loads(json.dumps(theirs.to_dict()))
    for name in ("bad_words_ids", *RULES):  # which transformers 5 has in generation_config.json
        modern[name] = published.get(name)
    ours, again = family.read(published), family.read(modern)
    if "t5" in published["model_type"]:  # where transformers 5 leaves it to the weights whether the head is tied
        again = replace(again, share_embeddings=ours.share_embeddings)
    assert ours == again


REFUSED = [
    ("llama", {"some_scaling": 2.0}, "some_scaling"),
    ("llama", {"auto_map": {"AutoModel": "modeling.Model"}}, "auto_map"),
    ("llama", {"quantization_config": {"bits": 4}}, "quantization_config"),
    ("llama", {"hidden_act": "xielu"}, "hidden_act"),
    ("llama", {"rope_scaling": {"rope_type": "longrope", "factor": 4.0}}, "longrope.* change with the longest text"),
    ("llama", {"rope_scaling": {"rope_type": "yarn", "mystery": 4.0}}, "mystery"),
    ("llama", {"rope_scaling": {"rope_type": "linear"}}, "factor"),
    ("llama", {"rope_parameters": {"rope_type": "default", "mrope_section": [1, 2]}}, "mrope_section"),
    ("llama", {"rope_parameters": {"rope_theta": 10.0, "partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
    ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
    ("llama", {"sliding_window": 4}, "sliding_window"),
    ("gpt2", {"add_cross_attention": True}, "add_cross_attention"),
    ("gpt2", {"n_embd": 12, "hidden_size": 24}, "hidden_size"),
    ("gpt_neox", {"rotary_pct": 1.0, "hidden_size": 26, "num_attention_heads": 2}, "head_dim 13 must be even"),
    ("bloom", {"slow_but_exact": True, "pretraining_tp": 2}, "slow_but_exact"),
    ("qwen2", {"use_mrope": True}, "use_mrope"),
    ("qwen2", {"layer_types": ["full_attention"]}, "layer_types"),
    ("qwen2", {"num_hidden_layers": 1, "layer_types": ["sliding_attention"]}, "sliding_window"),
    ("gemma2", {"num_hidden_layers": 1, "layer_types": ["chunked_attention"]}, "chunked_attention"),
    ("gemma", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
    ("bart", {"is_decoder": True}, "is_decoder"),
    ("bart", {"scale_embedding": "yes"}, "scale_embedding is 'yes', expected bool"),
    ("bart", {"d_model": True}, "d_model is True, expected int"),
    ("llama", {"hidden_size": None}, "hidden_size is null"),
    ("llama", {"rope_theta": None}, "rope_theta cannot be understood"),
    ("llama", {"num_attention_heads": 0}, "rope_theta cannot be understood"),
    ("gpt2", {"n_head": 0}, "n_heads is 0"),
    ("gpt2", {"n_embd": "768"}, "n_embd is '768', expected int"),
    ("t5", {"feed_forward_proj": 3}, "feed_forward_proj"),
    ("marian", {"decoder_vocab_size": 7}, "decoder_vocab_size"),
    ("m2m_100", {"decoder_start_token_id": 1}, "decoder_start_token_id"),
    ("llama", {"rope_scaling": "linear"}, "rope_scaling is 'linear', expected dict"),
    ("llama", {"rope_parameters": {"rope_theta": "x"}}, "rope_theta is 'x', expected float"),
    ("llama", {"rope_scaling": {"rope_type": "linear", "factor": "x"}}, "factor is 'x', expected float"),
    ("gpt_neox", {"rotary_pct": "a"}, "rotary_pct is 'a', expected float"),
    ("gpt_neox", {"rotary_pct": float("nan")}, "rotary_pct cannot be understood"),
    ("m2m_100", {"pad_token_id": "x"}, "pad_token_id is 'x', expected int"),
    ("t5", {"forced_eos_token_id": [1, 7]}, "forced_eos_token_id is \\[1, 7\\]; .* one token"),
    ("marian", {"forced_eos_token_id": "x"}, "forced_eos_token_id is 'x', expected int or list"),
    ("m2m_100", {"eos_token_id": {}}, "eos_token_id is {}, expected int or list"),
    ("marian", {"share_encoder_decoder_embeddings": "no"}, "share_encoder_decoder_embeddings is 'no', expected bool"),
    ("opt", {"do_layer_norm_before": "no"}, "do_layer_norm_before is 'no', expected bool"),
    ("bart", {"tie_word_embeddings": "false"}, "tie_word_embeddings is 'false', expected bool"),
    ("qwen2", {"use_sliding_window": "yes"}, "use_sliding_window is 'yes', expected bool"),
    ("t5", {"feed_forward_proj": "gated-laplace"}, "dense_act_fn"),
    ("phi3", {"rope_scaling": {"type": "longrope", "factor": 4.0}}, "longrope"),
    ("phi3", {"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 9}}, "yarn"),
    ("nanochat", {"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 9}}, "yarn"),
    ("mpt", {"attn_config": {"qk_ln": True}}, "attn_config: qk_ln is True"),
    ("mpt", {"attn_config": {"alibi_bias_max": 16}}, "attn_config: alibi_bias_max is 16"),
    ("mpt", {"attn_config": {"kv_n_heads": 2}}, "attn_config: kv_n_heads is not known"),
    ("mpt", {"attn_config": {"clip_qkv": "x"}}, "clip_qkv is 'x', expected float"),
    ("mpt", {"expansion_ratio": 3}, "expansion_ratio"),
    ("helium", {"head_dim": 64}, "head_dim is 64"),
    ("gpt_neo", {"attention_types": [[["global"], 3]]}, "attention_types must name 24 layers"),
    ("gpt_neo", {"attention_types": [[["middle"], 24]]}, "attention_types must name 24 layers"),
    ("gpt_neo", {"attention_types": [["global"]]}, "attention_types, .*cannot be understood"),
    ("gpt_neo", {"attention_layers": ["global"] * 24}, "attention_layers and attention_types"),
    ("cohere", {"use_qk_norm": True}, "use_qk_norm"),
    ("cohere2", {"num_hidden_layers": 1, "sliding_window": None}, "there is no sliding_window"),
    ("smollm3", {"no_rope_layers": [1]}, "no_rope_layers has 1 layers of 36"),
    ("exaone4", {"sliding_window_pattern": "LLLG"}, "sliding_window_pattern is .LLLG., expected int"),
    ("olmo3", {"rope_parameters": {"full_attention": {}}}, "rope_parameters has full_attention, expected"),
    ("olmo3", {"sliding_window_pattern": 4}, "sliding_window_pattern"),
    ("codegen", {"n_head": 6}, "n_head is 6; only multiples of 4"),
    ("gptj", {"rotary_dim": 3}, "positions.dim 3 must be even"),
    ("falcon", {"alibi": True}, "alibi"),
    ("falcon", {"new_decoder_architecture": True, "parallel_attn": False}, "parallel_attn is False"),
    ("falcon", {"num_ln_in_parallel_attn": 2}, "num_ln_in_parallel_attn is 2"),
    ("hunyuan_v1_dense", {"use_cla": True}, "use_cla"),
    ("hunyuan_v1_dense", {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "dynamic.* change with the longest"),
    ("t5", {"feed_forward_proj": "swapped-gelu"}, "feed_forward_proj"),
]


@pytest.mark.parametrize(("family", "fields", "named"), REFUSED)
def test_what_is_not_supported_is_refused_by_name(family: str, fields: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named) as refusal:
        FAMILIES[family].read(fields)
    assert "\n" not in str(refusal.value)


@every_family
def test_a_value_of_another_type_is_refused_by_name(family: str) -> None:
    """A word, which is not a value of any field that is read."""
    known = FAMILIES[family]
    names = {entry.name for entry in known.fields.values()}.union(*(part.names for part in known.parts))
    headed = {"architectures": ["ForSequenceClassification"]} if known.config is EncoderConfig else {}
    for name in sorted(names - {"stop_strings"}):  # which may be one
        with pytest.raises(UserError, match=f"({name}|dense_act_fn) is 'no'") as refusal:
            known.read({**NEEDED.get(family, {}), **headed, name: "no"})
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("family", "old", "new"),
    [
        ("llama", {"rope_theta": 5e5}, {"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}}),
        ("llama", {"rope_scaling": {"type": "linear", "factor": 2.0}},
         {"rope_parameters": {"rope_theta": 1e4, "rope_type": "linear", "factor": 2.0}}),
        ("gpt_neox", {"rotary_emb_base": 500, "rotary_pct": 0.5},
         {"rope_parameters": {"rope_theta": 500.0, "rope_type": "default", "partial_rotary_factor": 0.5}}),
        ("bloom", {"n_embed": 48, "num_attention_heads": 6}, {"hidden_size": 48, "n_head": 6}),
        ("bart", {"num_hidden_layers": 5}, {"encoder_layers": 5}),
        ("gemma", {"hidden_act": "gelu"}, {"hidden_act": "gelu_pytorch_tanh"}),
        ("marian", {"decoder_vocab_size": 58101}, {"decoder_vocab_size": None}),
        ("t5", {"feed_forward_proj": "gated-gelu"},
         {"feed_forward_proj": "relu", "dense_act_fn": "gelu_new", "is_gated_act": True}),
        ("llama", {"unheard_of": None, "pruned_heads": {}}, {}),
        ("gpt2", {"n_special": 0, "predict_special_tokens": True}, {}),
        ("gpt_neox", {"attention_probs_dropout_prob": 0, "hidden_dropout_prob": 0}, {}),
        ("opt", {"output_projection": True}, {}),
        ("bart", {"replacing_rate": 0, "save_step": 58, "author": "x"}, {}),
    ],
)  # fmt: skip
def test_old_names_mean_the_same(family: str, old: dict[str, Any], new: dict[str, Any]) -> None:
    assert FAMILIES[family].read(old) == FAMILIES[family].read(new)


def test_special_tokens_may_be_lists_or_outside_of_the_vocabulary() -> None:
    small = FAMILIES["gpt2"].read({"vocab_size": 99, "bos_token_id": 98})
    assert (small.bos_id, small.eos_id) == (98, None)
    chat = FAMILIES["llama"].read({"eos_token_id": [7, 8, 9], "pad_token_id": -1})
    assert isinstance(chat, DecoderConfig)
    assert (chat.eos_id, chat.stop_ids, chat.pad_id) == (7, (8, 9), 31999)
    assert FAMILIES["llama"].write(chat)["eos_token_id"] == [7, 8, 9]


def test_a_chat_ends_where_generation_config_json_says_too(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gemma2", "eos_token_id": 1}')
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [1, 107]}')
    family, fields = read_fields(tmp_path)
    config = family.read(fields)
    assert isinstance(config, DecoderConfig)
    assert (config.eos_id, config.stop_ids) == (1, (107,))


def test_a_target_starts_with_what_generate_takes() -> None:
    assert FAMILIES["mbart"].read({}).bos_id == 0
    assert FAMILIES["mbart"].read({"decoder_start_token_id": 17}).bos_id == 17
    assert FAMILIES["t5"].read({"pad_token_id": 5}).bos_id == 5


@pytest.mark.parametrize("name", ["bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id"])
@pytest.mark.parametrize("value", ["many", {"a": 1}, True, 1.5])
def test_a_wrong_id_is_named_also_where_generation_config_json_has_the_last_word(
    name: str, value: Any, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "marian", name: value}))
    (tmp_path / "generation_config.json").write_text(json.dumps({name: 4}))
    with pytest.raises(UserError, match=f"{name} is "):
        read_fields(tmp_path)


@pytest.mark.parametrize("start", [{}, {"decoder_start_token_id": 5}])
def test_a_target_starts_and_ends_with_generation_config_json_s_tokens(start: dict[str, int], tmp_path: Path) -> None:
    # `generate` asks that file alone, whatever config.json says.
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5", "eos_token_id": 3, **start}))
    (tmp_path / "generation_config.json").write_text('{"decoder_start_token_id": 11, "eos_token_id": 4, "top_k": 50}')
    family, fields = read_fields(tmp_path)
    config = family.read(fields)
    assert (config.bos_id, config.eos_id) == (11, 4)


def test_marian_s_default_start_in_a_small_vocabulary_is_pad() -> None:
    config = FAMILIES["marian"].read({"vocab_size": 99, "pad_token_id": 98})
    assert isinstance(config, EncoderDecoderConfig)
    assert config.bos_id == 98


@pytest.mark.parametrize("family", ["bart", "m2m_100"])
@pytest.mark.parametrize(
    ("config", "generation", "forced"),
    [
        ({}, None, None),  # whatever the default of the family's configuration
        ({"forced_eos_token_id": 2}, None, 2),
        ({"forced_eos_token_id": 5}, None, 5),
        ({"forced_eos_token_id": None}, None, None),
        ({"forced_eos_token_id": 2}, {}, None),  # generation_config.json alone is asked, where there is one
        ({}, {"forced_eos_token_id": 2}, 2),
        ({"forced_eos_token_id": 2}, {"forced_eos_token_id": None}, None),
        ({"forced_eos_token_id": 7}, {"forced_eos_token_id": [2]}, 2),
    ],
)
def test_a_target_is_forced_to_end_where_generate_forces_it(
    family: str, config: dict[str, Any], generation: dict[str, Any] | None, forced: int | None, tmp_path: Path
) -> None:
    ids = {"eos_token_id": 2, "model_type": family}
    (tmp_path / "config.json").write_text(json.dumps(ids | config))
    if generation is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(ids | generation))
    known, fields = read_fields(tmp_path)
    read = known.read(fields)
    assert isinstance(read, EncoderDecoderConfig)
    assert read.forced_last_id == forced
    file = "config.json" if generation is None else "generation_config.json"
    theirs = GenerationConfig.from_pretrained(tmp_path, config_file_name=file)
    assert theirs.forced_eos_token_id in (forced, [forced])
    assert known.write(read)["forced_eos_token_id"] == forced


@pytest.mark.parametrize(
    ("config", "generation", "never"),
    [
        ({}, None, ()),
        ({"bad_words_ids": [[1]]}, None, None),  # pad, and the start is the end: as ours by itself
        ({"bad_words_ids": [[1], [5, 6]]}, {}, ()),
        ({}, {"bad_words_ids": [[1], [9], [5, 6]], "suppress_tokens": [7, 2]}, (1, 7, 9)),  # an end there must be
        ({}, {"bad_words_ids": None, "suppress_tokens": [1]}, None),
        ({}, {"bad_words_ids": [[-1], [99]]}, ()),  # outside the vocabulary
    ],
)
def test_a_target_never_contains_what_generate_suppresses(
    config: dict[str, Any], generation: dict[str, Any] | None, never: tuple[int, ...] | None, tmp_path: Path
) -> None:
    fields = {"model_type": "bart", "vocab_size": 50, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2}
    (tmp_path / "config.json").write_text(json.dumps(fields | config))
    if generation is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(generation))
    known, theirs = read_fields(tmp_path)
    read = known.read(theirs)
    assert isinstance(read, EncoderDecoderConfig)
    assert read.never_ids == never
    assert known.read({**theirs, **known.write(read), "suppress_tokens": None}) == read


@pytest.mark.parametrize("file", ["config.json", "generation_config.json"])
def test_a_target_ends_with_one_token(file: str, tmp_path: Path) -> None:
    def read(ends: list[int]) -> int | None:
        (tmp_path / "config.json").write_text('{"model_type": "bart"}')
        (tmp_path / file).write_text(json.dumps({"model_type": "bart", "eos_token_id": ends}))
        family, fields = read_fields(tmp_path)
        return family.read(fields).eos_id

    assert read([7, 7]) == 7
    with pytest.raises(UserError, match=r"eos_token_id is \[7, 8\]; .* keep the"):
        read([7, 8])


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"model_type": "mamba"}, "model_type is 'mamba'"),
        ({"model_type": ["llama"]}, "model_type is \\['llama'\\]"),
        ({"model_type": "llama", "eos_token_id": {}}, "eos_token_id"),
        ({"model_type": "llama", "eos_token_id": [[2]]}, "eos_token_id"),
        ({"model_type": "t5", "eos_token_id": [[2]]}, "eos_token_id"),
    ],
)
def test_a_kind_or_an_end_of_another_type_is_refused(tmp_path: Path, fields: dict[str, Any], named: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(fields))
    if fields["model_type"] != "t5":  # whose ends are that file's
        (tmp_path / "generation_config.json").write_text('{"eos_token_id": 3}')
    with pytest.raises(UserError, match=named):
        read_config(tmp_path)


def test_a_field_that_begins_with_an_underscore_is_about_the_file() -> None:
    about = {"_model_name_or_path": "x", "_attn_implementation": "eager", "_anything_new": {"a": 1}}
    for family in FAMILIES.values():
        fields = {"model_type": family.model_type, **NEEDED.get(family.model_type, {})}
        assert family.read({**fields, **about}) == family.read(fields)
    opt = FAMILIES["opt"]  # which reads one
    assert opt.read({"_remove_final_layer_norm": True, **about}) != opt.read(about)
    with pytest.raises(UserError, match="anything_new is not known for opt"):
        opt.read({"anything_new": 1})
