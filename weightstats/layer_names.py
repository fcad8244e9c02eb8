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
    (r"(^|[._])(\w*_)?masks?$", "a mask"),
    (r"inv_freq$|(^|[._])(freqs_cis|rope|rotary)([._]|$)", "frequencies of a rotary position encoding"),
    # Swin, BEiT, MaxViT in torchvision and timm
    (r"relative_position_index$|relative_coords_table$|rel_pos_idx$", "a table of relative positions"),
    # torchaudio, openai-whisper, silero-vad, nnAudio
    (
        r"(^|[._])stft|(^|[._])istft|mel_?(filter|basis|scale|fb)|fbank|filter_?bank|(^|[._])dct_mat",
        "a fixed transform",
    ),
    (r"(^|[._])(hann|hamming)?_?window$", "a window function"),
    # vector-quantize-pytorch, EnCodec and Mimi in transformers
    (
        r"codebook\.(embed(_avg|_sum)?|cluster_(size|usage)|initted)$|(^|[._])(embed_avg|embed_sum|ema_w)$",
        "a codebook that averages move, or its averages",
    ),
    # MiniMax's lightning attention
    (r"(^|[._])(query|key|diagonal|block)_decay$|slope_rate$", "fixed decays"),
    # I-BERT
    (r"weight_integer$|bias_integer$|fc_scaling_factor$", "a weight rounded for integer arithmetic"),
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
    (r"relative_position_bias_table$|rel_pos_[hw]$|rel_pos_bias(_table)?$|attention_biases$|rel_height$|rel_width$|(height|width)_rel$",
     "a table of relative positions, added to attention"),
    (r"(^|[._])((abs(olute)?_)?pos_?emb(ed|eds|edding|eddings)?|position(al)?_embeddings?|pos_encoding|pe)$",
     "learned positions, added to the activations"),
    (r"(^|[._])(\w*_)?pos(ition(al)?)?_?(embed\w*|embs?|encoding\w*|table)$",
     "learned positions, added to the activations"),
    (r"(^|[._])(seg_embed|r_w_bias|r_r_bias|r_s_bias)$", "XLNet's segments and biases"),
    (r"(^|[._])(A_log|A_logs|dt_bias|time_(decay|first|mix\w*|maa\w*|faaaa))$",
     "decay of a recurrence, not multiplied with an input"),
    (r"(cls|class|dist|mask|register|reg|prompt|query)_?(token|tokens)$|class_embedding$|level_embed$",
     "a learned token, not multiplied with an input"),
    (r"(^|[._])(latents?(_\w+)?|(\w*_)?quer(y|ies)|reference_points)$",
     "learned queries, not multiplied with an input"),
    (r"(mamba|mixer|ssm)\w*\.D$", "what a state-space layer passes on, by channel"),
    (r"(^|[._])scales?$|logit_scale$|(^|[._])temperature$|(^|[._])(gamma|beta|alpha)(_\d)?$|layer_?scale|(^|[._])ls\d?$|gate_?msa$",
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
    r"^(wte|wpe|shared|relative_attention_bias|lookup|codebook|tok\w*_emb\w*)$"
    r"|(^|_)(embed|embeds|embedding|embeddings|emb|embs)(_?[A-Za-z]+)*(_?\d+)?$"
    r"|(^|_)(token|word|char|label|class|position)_embedder$|(Embedder|Embedding)(_\d+)?$"
    r"|(^|_)(token|tokens|query|queries|codebook)(_?(embed|feat)\w*)?$|^pe_[kv]$|^bias_values$|^reference_points$"
    r"|(^|_)table$|(^|_)pos(ition)?_(encoding|embed\w*)$",
    re.ASCII,
)
"""Names of torch.nn.Embedding modules in transformers (GPT-2, BERT, T5, LLaMA, OPT, GPT-NeoX), fairseq, DETR, SAM,
speechbrain."""

NOT_EMBEDDING = re.compile(
    r"embed(s|ding)?_?(out|proj|hidden|dense|linear)|mapper|patch|^(query|queries)$|^to_|conv|^(self_)?attn|^un"
)
"""Modules of such names that are linear layers: the final projection of GPT-NeoX (`embed_out`), of ALBERT
(`embedding_hidden_mapping_in`), patches of pictures, an attention's `query`, `to_queries` in lucidrains' networks."""

POSITION_BIAS = re.compile(r"(^|_)(rel_)?pos(ition)?_bias$")
"""Modules that hold a bias for each distance and head, as a table or as a layer: more rows than columns are a table."""

KEY_MODULE = re.compile(r"\w*key\w*|k|k_proj")
"""Beside an attention's `query`."""

HEAD_MODULE = re.compile(
    r"head|out|logits|classif|decoder|proj|score|predict|(^|\.)(fc|linear|lin|dense|cls|generator|vocab)\d*\.",
    re.IGNORECASE,
)
"""Names of layers that give out one number for each token."""

GROUPED = re.compile(r"pos_conv_embed|grouped|group_?conv", re.IGNORECASE)
"""Convolutions that give out as many channels as they take, in groups: wav2vec 2.0's positions; by name."""

UPSAMPLING = re.compile(r"(^|[._])(up(?!date)\w*|resize|\w*upsample\w*|fpn\d?|scaled_images|unpatch\w*)([._]|$)")
"""Modules that enlarge pictures: transformers' DPT, Depth Pro, BEiT; U-Nets."""

RECURRENT = re.compile(r"(^|[._])weight_(?P<of>ih|hh|hr)(_l\d+)?(_reverse)?$")
"""torch.nn.RNN, LSTM, GRU and their cells."""

RECURRENT_KINDS = {4: "lstm", 3: "gru", 1: "rnn"}
"""Gates, by the number of them."""

LOW_RANK = re.compile(r"(^|[._])lora_(A|B|a|b|up|down|embedding_[AB]|mid)([._]|$)|hada_w[12]|lokr_w[12]")
"""Factors of low-rank adapters: peft, kohya-ss, LyCORIS."""

DIRECTION = re.compile(r"(^|[._])weight(_\w+)?_v$|parametrizations\.[^.]+\.original1$")
"""torch.nn.utils.weight_norm: the direction, whose scale the network does not use."""

DEPTHWISE = re.compile(r"depth_?wise|(^|[._])(dw|dw_?conv|conv_?dw)\d*([._]|$)", re.IGNORECASE)
TRANSPOSED = re.compile(r"transp(ose|_?conv)|deconv|conv_?tr([._]|$)|upconv|conv(t\d*|_t\d+)([._]|$)", re.IGNORECASE)

WEIGHT_LEAF = re.compile(
    r"(^|\.)(\w*_)?(weight(_(ih|hh|hr)(_l\d+)?(_reverse)?|_v|_orig)?|kernel|w\d*)$|\.original1?$", re.IGNORECASE
)
"""What the last part of a weight's name is called: torch, Keras and JAX."""

CONVOLUTION_LEAF = re.compile(r"(^|\.)(weight(_v|_orig)?|kernel)$|\.original1?$")
"""What the last part of a convolution's name is called; a stack of matrices is called anything else."""

MODULE_WEIGHT = re.compile(
    r"[._](weight|kernel|weight_v|weight_orig|parametrizations\.weight\.original1?)$|(?<=in_proj)_weight$"
)
"""What a module's weight is called behind the module's path."""

INPUT_MODULE = re.compile(r"stem|(^|_)input|first|^conv_?(0|1|in|pre)$|patch_?emb|^features$|^conv_proj$")
"""Modules that take a network's input: timm, torchvision, segmentation and speech networks."""

TOKENS_MODULE = re.compile(r"^(wte|shared|tok\w*|word\w*|char\w*|(\w*_)?embed_tokens|\w*vocab\w*|tokens_embed)$")
"""Tables of tokens in transformers (GPT-2, T5, BERT, LLaMA, CTRL) and LLaMA's original release."""

ROUTER_MODULE = re.compile(r"(\w*_)?(router|gate|gating|wg)(_layer)?|ffn_gate_inp")
"""What chooses among experts: transformers (Mixtral, Qwen-MoE, Switch, DBRX, GPT-OSS), DeepSpeed, GGUF."""

HEADS_APART: tuple[tuple[str, str, str], ...] = (
    (r"rel_attn\.(q|k|v|r)$", "IOO", "transformers' XLNet"),
    (r"rel_attn\.o$", "OII", "transformers' XLNet"),
    (r"(^|\.)r_kernel$", "IOO", "transformers' Funnel"),
)
"""(pattern, letters of `tensors.Use` for its dimensions, origin)."""

LINEAR_MODULE = re.compile(r"linear|proj|dense|expert|(^|[._])(fc|w)\d*$|(^|[._])(wi|wo|lin)")
"""Names of modules that are not convolutions."""

ONE_CHANNEL = re.compile(
    r"audio|speech|acoustic|semantic|wav|mel(_|$)|codec|(^|_)dac|sound|voice|mask|subsampl|detector"
)
"""Parts of a network with several inputs that take one channel: waveforms, spectrograms, masks; transformers."""

SQUEEZE = re.compile(
    r"(^|[._])(se|attn|eca|ca|squeeze_?(and_)?ex\w*|gate|channel_attention)\.|conv_reduce|conv_squeeze|conv\d+\.fc\d",
    re.ASCII,
)
"""Modules that weigh channels and pass none of their own on: timm's squeeze-and-excitation."""

INPUTS_FIRST = re.compile(
    r"\.experts\.mlp\.w2$|(^|\.)(proj|(text|image|visual|vision)_projection|mm_input_projection_weight)$"
)
"""Bare parameters that an input is multiplied with from the left, so that their inputs come first: CLIP, Gemma 3,
and DBRX's experts."""

GROUPS_BY_CONFIG: tuple[tuple[str, str], ...] = (
    (r"pos_conv_embed", "num_conv_pos_embedding_groups"),  # wav2vec 2.0, HuBERT, WavLM
    (r"attention\.query$", "q_groups"),  # SqueezeBERT, and below
    (r"attention\.key$", "k_groups"),
    (r"attention\.value$", "v_groups"),
    (r"post_attention\.conv1d$", "post_attention_groups"),
    (r"intermediate\.conv1d$", "intermediate_groups"),
    (r"output\.conv1d$", "output_groups"),
)
"""(pattern of a convolution's path, key of the configuration that has its groups): transformers."""

DOWN_MODULE = re.compile(r"down|output|(^|_)w2|(^|_)wo|fc2|c_proj|out_proj|^w_?out|2$")
"""The second of two layers of a perceptron, which gives out what the network's width is."""

SMALLER = re.compile(r"(^|[._])(downsample|pool)([._]|$)")
"""Modules between two stages that make pictures smaller and double their channels: timm's FastViT and PiT."""

ROUTED = "routing_fn"
"""What weighs the kernels of a conditionally parameterised convolution: timm's CondConv (arXiv:1904.04971)."""

MULTIPLIED = re.compile(
    r"(^|[._])([wu](_?\w{1,4})?|v\d)$|(^|[._])lin\w*$|linear|proj|kernel|weight|matri|dense|expert|router|(^|_)fn$|(^|[._])fc\d*$"
    r"|(^|[._])(att?n?|theta|phi)(_\w+)?$|lora|hada|lokr|_(q|k|v|o)$",
    re.IGNORECASE,
)
"""What parameters are called that an input is multiplied with, where they are not a module's `weight`: GCNs, xLSTM."""
