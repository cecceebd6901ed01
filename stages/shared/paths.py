"""Where the stages' data lies, from the repository's root: the one home of these paths."""

from pathlib import Path

DATA = Path("data")
METRICS = Path("metrics")
PLOTS = METRICS / "plots"

EMBEDDED = DATA / "base"  # git's: the models that the project ships
TOYBIRDS_BASE = EMBEDDED / "toybirds"
JUDGE = TOYBIRDS_BASE / "judge"

CHECK = DATA / "check"
DOWNLOAD = DATA / "download"  # its tables are train, masks, test and ood
SUBSAMPLE = DATA / "subsample"
METHOD = DATA / "method"
FINETUNE = DATA / "finetune"
PLAN = DATA / "plan"
SYNTHESIZE = DATA / "synthesize"
FILTER = DATA / "filter"
ASSESS = DATA / "assess"
TRAIN = DATA / "train"  # a folder for each arm
