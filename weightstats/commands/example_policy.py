"""The policy that `weightstats check --example` prints."""

EXAMPLE = """\
# What a checkpoint must be like: weightstats check model.safetensors --policy policy.toml
# Every [[rule]] demands one thing. It is an error (exit code 1) where that is not so, unless its level is "warning" or
# "note". What cannot be judged is a finding too, at the rule's level unless when_not_judged says otherwise.
# Lines that begin with # do nothing; remove the # to use them, and change what is demanded to what your networks are
# like: weightstats inspect shows it.

# [inspect]                      # how the checkpoint is inspected, as by the options of weightstats inspect
# law = "fan-sum"
# root = "model_state_dict"
# rules = "layers.toml"          # a path from this file's folder

# --- the file ---------------------------------------------------------------------------------------------------------

[[rule]]
damage = false                   # the file is whole

[[rule]]
unread = 0                       # every tensor can be read, and ...

[[rule]]
packed = 0                       # ... every quantised weight decoded; both are demanded also without these rules

[[rule]]
objects_not_loaded = ["argparse.Namespace"]  # [] for none: a pickle may then name no class or function but tensors'
because = "Objects in a checkpoint can run code in whoever loads it."

# The other rules hold for any file of numbers: format here, and names below, are what tells another network, or a file
# that is no network at all, from yours.
# [[rule]]
# format = ["safetensors*"]      # globs: a sharded one is "safetensors, 4 shards"

# [[rule]]
# dtype = ["F32", "BF16"]        # of layers, biases, norms and other learned tensors

# [[rule]]
# parameters = [1e6, 2e9]        # [at least, at most]; inf and -inf for no bound

# [[rule]]
# warnings = []                  # or globs of those that may be there

# --- every layer ------------------------------------------------------------------------------------------------------

[[rule]]
nonfinite = 0                    # no NaN and no infinity, in biases and norms neither

[[rule]]
all_zero = false                 # no dead layer

[[rule]]
share_of_zeros = 0.5             # at most
level = "warning"

[[rule]]
initialisation = ["moved"]       # no layer as initialised, or hardly moved from there; ...
when_not_judged = "note"         # ... of small and of quantised layers that cannot be told

[[rule]]
ratio = [0.05, 20]               # the mean square over the fitted law's
when_not_judged = "note"         # embeddings, for instance, are left out of the fit

# [[rule]]                       # the same for some layers: globs on their names
# ratio = [0.5, 2]
# include = ["encoder.layers.*"]
# exclude = ["*.norm*"]
# id = "ratio-encoder"           # what findings are called by
# level = "warning"

# [[rule]]
# max_abs = 10

# [[rule]]
# excess_kurtosis = [-1.5, 50]

# --- which layers -----------------------------------------------------------------------------------------------------

[[rule]]
layers = [1, inf]                # how many there are

# [[rule]]                       # the guard against a file that is another network, or none
# names = ["encoder.embed.weight", "head.*"]  # for each of them there is a tensor

# --- the law and the penalties ----------------------------------------------------------------------------------------

# [[rule]]
# verdict = ["supported", "undetermined"]

# [[rule]]
# exponent = [-1.3, -0.7]        # exponent_interval demands it of the whole 95 % interval

# [[rule]]
# constant = [0.5, 4]            # c in c/(n_in+n_out); Glorot's initialisation has 2

[[rule]]
largest_share = 0.9              # of the plain penalty, on one layer
penalty = "plain"
level = "warning"

# [[rule]]
# evenness = 0.5                 # at least; 1 where a penalty falls on all layers alike
# penalty = "fan_scaled"
"""
