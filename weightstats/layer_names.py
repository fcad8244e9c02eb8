"""Names of tensors and modules that tell what a tensor is: tables of patterns, each with where the names come from."""

import re

CAUSAL_MASK = re.compile(r"(^|[._])(attn|attention|self|sa)\.bias$")
"""GPT-2's and GPT-NeoX's masks; as a vector, it is the bias of a linear layer of that name."""

BUFFERS: tuple[tuple[str, str], ...] = (
    # torch.nn.BatchNorm
    (r"running_mean$|running_var$|running_std$", "running statistics of a normalisation"),
    (r"num_batches_tracked$", "a counter of a normalisation"),
    # transformers: BERT, GPT-2, GPT-NeoX, LLaMA
    (r"(^|[._])position_ids$|token_type_ids$", "a table of positions"),
    (
        r"masked_bias$|(attn|causal|attention|tgt|src)_?mask$",
        "a mask",
    ),
    (r"inv_freq$|(^|[._])(freqs_cis|rope|rotary)([._]|$)", "frequencies of a rotary position encoding"),
    # Swin, BEiT, MaxViT in torchvision and timm
    (r"relative_position_index$|relative_coords_table$|rel_pos_idx$", "a table of relative positions"),
    # torchaudio, openai-whisper, silero-vad, nnAudio
    (
        r"(^|[._])stft|(^|[._])istft|mel_?(filter|basis|scale|fb)|fbank|filter_?bank|(^|[._])dct_mat",
        "a fixed transform",
    ),
    (r"(^|[._])(hann|hamming)?_?window$", "a window function"),
    # torch.nn.utils.spectral_norm and its parametrization
    (r"weight_u$|(^|[._])_[uv]$|parametrizations\..*\.0\._[uv]$", "a vector of spectral normalisation"),
    # quantisation-aware training and observers
    (r"(^|[._])(zero_point|min_val|max_val|observer_enabled|fake_quant_enabled)$", "state of a quantisation observer"),
    # chemprop, torchmetrics, torch.nn.CrossEntropyLoss
    (r"(^|[._])(task|class|loss|sample|label|pos)_weights?$", "weights of a loss, not of a layer"),
    (r"anchor_grid$|(^|[._])anchors$|(^|[._])stride$", "geometry of a detector"),
)
"""Names of tensors that training does not learn, with what they are."""

PARAMETERS: tuple[tuple[str, str], ...] = (
    (r"relative_position_bias_table$|rel_pos_[hw]$|rel_pos_bias|attention_biases$|rel_height$|rel_width$",
     "a table of relative positions, added to attention"),
    (r"(^|[._])((abs(olute)?_)?pos_?emb(ed|eds|edding|eddings)?|position(al)?_embeddings?|pos_encoding|pe)$",
     "learned positions, added to the activations"),
    (r"(cls|class|dist|mask|register|reg|prompt|query)_?(token|tokens)$|class_embedding$|(^|[._])(latents?|queries)$",
     "a learned token, not multiplied with an input"),
    (r"logit_scale$|(^|[._])temperature$|(^|[._])(gamma|beta|alpha)(_\d)?$|layer_?scale|(^|[._])ls\d?$|gate_?msa$",
     "a learned scale"),
    (r"weight_g$|parametrizations\.[^.]+\.original0$|(^|[._])magnitude|lora_magnitude_vector",
     "magnitudes of a weight normalisation"),
)  # fmt: skip
"""Learned tensors that are not multiplied with an input, so that they have no fan-in: timm, torchvision, CLIP."""

BIAS = re.compile(r"(^|[._])(\w*_)?bias(es)?(_\w+)?$|(^|\.)b\d*$")

NORM_MODULE = re.compile(
    r"(?i:norm(s|ali[sz]ation)?\d*(_\w+)?$|(^|[._])(bn|ln|gn)\d*(_\w+)?$|_(ln|bn|gn)\d*$)|\w(BN|LN|GN)\d*$"
)
"""Names of normalisation modules: the last part of the name before `weight`."""

ACTIVATION_MODULE = re.compile(r"(^|[._])(p?relu|act|activation|snake|alpha)\d*$", re.IGNORECASE)

EMBEDDING_MODULE = re.compile(
    r"^(wte|wpe|shared|relative_attention_bias|(\w*_)?(embed|embeds|embedding|embeddings|embedder|emb)(_(tokens|positions|in|table))?|tok_emb\w*)$"
)
"""Names of torch.nn.Embedding modules in transformers (GPT-2, BERT, T5, LLaMA, OPT, GPT-NeoX) and fairseq. A final
projection such as GPT-NeoX's `embed_out` is a linear layer."""

RECURRENT = re.compile(r"(^|[._])weight_(?P<of>ih|hh|hr)(_l\d+)?(_reverse)?$")
"""torch.nn.RNN, LSTM, GRU and their cells."""

RECURRENT_KINDS = {4: "lstm", 3: "gru", 1: "rnn"}
"""Gates, by the number of them."""

LOW_RANK = re.compile(r"(^|[._])lora_(A|B|a|b|up|down|embedding_[AB]|mid)([._]|$)|hada_w[12]|lokr_w[12]")
"""Factors of low-rank adapters: peft, kohya-ss, LyCORIS."""

DIRECTION = re.compile(r"(^|[._])weight_v$|parametrizations\.[^.]+\.original1$")
"""torch.nn.utils.weight_norm: the direction, whose scale the network does not use."""

DEPTHWISE = re.compile(r"depth_?wise|(^|[._])(dw|dw_?conv|conv_?dw)\d*([._]|$)", re.IGNORECASE)
TRANSPOSED = re.compile(r"transpose|deconv|conv_?tr([._]|$)|upconv|convt([._]|$)", re.IGNORECASE)

WEIGHT_LEAF = re.compile(
    r"(^|\.)(\w*_)?(weight(_(ih|hh|hr)(_l\d+)?(_reverse)?|_v|_orig)?|kernel|w\d*)$|\.original1?$", re.IGNORECASE
)
"""What the last part of a weight's name is called: torch, Keras and JAX."""

CONVOLUTION_LEAF = re.compile(r"(^|\.)(weight(_v|_orig)?|kernel)$|\.original1?$")
"""What the last part of a convolution's name is called; a stack of matrices is called anything else."""
