"""What a layer does in its network, as far as its name and kind tell: layers of one role may share an offset."""

import re

FAMILIES = ("linear", "attention", "convolution", "recurrent")
"""What verdicts by kind are given for."""

_FAMILY_OF_KIND: tuple[tuple[str, str], ...] = (
    (r"conv", "convolution"),
    (r"lstm|gru|rnn|recurrent", "recurrent"),
    (r"linear", "linear"),
)

_PROJECTION = re.compile(
    # transformers: LLaMA, OPT, ViT, DETR, ProphetNet; DistilBERT, XLM
    r"(?:q|k|v|o|kv|qk|qkv|query|key|value)_?(?:proj|lin)(?:_weight)?"
    # diffusers and lucidrains; timm; Megatron-LM, GPT-NeoX; LeViT
    r"|to_(?:q|k|v|kv|qk|qkv|out)|qkv|query_key_value|queries|keys_values|queries_keys_values"
)
"""What a projection of attention is called, whatever stands around it. `out_proj` is not: perceptrons, classifiers and
state space models have one too."""

_ATTENTION = re.compile(
    # torch.nn.MultiheadAttention, transformers, timm, T5 (SelfAttention, EncDecAttention)
    r"attn|attention|multi_?head"
    # LXMERT (visn_self_att), CPM (self_att); CoaT (factoratt_crpe); Next-ViT (e_mhsa); XCiT, EdgeNeXt (xca)
    r"|(?:^|_)(?:att|factoratt|mha|mhsa|xca)(?:[\d_]|$)"
)
"""What a module of attention is called."""

_PERCEPTRON = re.compile(r"mlp|ffn|ffw|feed_?forward|(?:^|_)(?:fc|lin|linear)\d")
"""What a block's perceptron and its layers are called; one may lie in a block that is named after its attention."""

_PARTS_OF_ATTENTION = ("q", "k", "v", "q,k,v", "k,v", "q,k")
"""What maps fused in one weight are called: `fused_names`."""

_LONGEST = 256
"""Characters at the end of a name that patterns are tried on."""

_LEAF = re.compile(r"[._/](?:weight|kernel|w|embeddings?)(?::0)?(?=$|\[)")
_SEPARATOR = re.compile(r"[./]")
_NUMBER = re.compile(r"\d+")
_COUNTED = re.compile(r"(?:layers?|blocks?|stage|unit|cell)_?\d{1,9}$", re.IGNORECASE)
"""Ends a key that counts blocks without a key of its own for the number: torchvision's `encoder_layer_3` and
`denselayer5`, Flax's `encoderblock_3`. The number in `resnet50` counts none."""

_LISTS_OF_ALIKE = re.compile(r"expert")
"""Lists, inside of a block, whose members all do the same."""


def family_of(kind: str, name: str) -> str:
    """One of FAMILIES, or '' for a kind that belongs to none: an embedding, an adapter's factor.

    A linear layer is attention's where its name says so. Of the keys of the name that say anything, the last decides.
    """
    for pattern, family in _FAMILY_OF_KIND:
        if re.search(pattern, kind):
            return "attention" if family == "linear" and _is_of_attention(name) else family
    return ""


def _is_of_attention(name: str) -> bool:
    path, part = _path_and_part(name)
    if part in _PARTS_OF_ATTENTION:
        return True
    for key in reversed(_SEPARATOR.split(path.lower())):
        if _PERCEPTRON.search(key):
            return False
        if _PROJECTION.fullmatch(key) or (_ATTENTION.search(key) and "norm" not in key):
            return True
    return False


def role_of(name: str) -> str:
    """What the layers of repeated blocks have in common.

    That is the name after the last number of a list of blocks: `mlp.up` of `layers.3.mlp.up.weight`, `mlp.2` of
    `layers.3.mlp.2.weight`, but `experts` of `layers.3.experts.2.weight`. A number at the end of a key counts blocks
    where no key is a number: `mlp.up` of `layer_3.mlp.up`. The name without its numbers where there is no
    list, or nothing but one: `features` of `features.12.weight`, `fc#` of `fc1.weight`. A part, `[q]`, stays; its
    number in a stack, `[3]`, does not. '' for the members of a bare list.
    """
    path, part = _path_and_part(name)
    keys = _SEPARATOR.split(_LEAF.sub("", path))
    keys = [key for place, key in enumerate(keys) if place == 0 or key != keys[place - 1]]
    last = ""
    while keys and keys[-1].isdecimal():
        last = keys.pop()
    numbered = [place for place, key in enumerate(keys) if key.isdecimal()]
    numbered = numbered or [place for place, key in enumerate(keys[:-1]) if _COUNTED.search(key)]
    if numbered:
        keys = keys[numbered[-1] + 1 :]
        if last and not _LISTS_OF_ALIKE.search(keys[-1]):
            keys.append(last)
    else:
        keys = [_NUMBER.sub("#", key) for key in keys]
    parts = [each for each in part.split(",") if each and not each.isdecimal()]
    return ".".join(keys) + (f"[{','.join(parts)}]" if parts else "")


def _path_and_part(name: str) -> tuple[str, str]:
    """The end of the name, without what stands in brackets behind it, and that."""
    name = name[-_LONGEST:]
    path, bracket, part = name.removesuffix("]").rpartition("[")
    return (path, part) if bracket and name.endswith("]") else (name, "")
