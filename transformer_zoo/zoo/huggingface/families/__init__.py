"""The families whose weights can be read and written, by their `model_type`."""

from transformer_zoo.zoo.huggingface.families import bart, gemma, gpt, llama, t5
from transformer_zoo.zoo.huggingface.family import Family

FAMILIES: dict[str, Family] = {
    family.model_type: family
    for family in (*gpt.FAMILIES, *llama.FAMILIES, *gemma.FAMILIES, *bart.FAMILIES, *t5.FAMILIES)
}
