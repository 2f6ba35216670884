"""pybioclip's constants; :mod:`linnaea.predict.pybioclip` has them."""

from linnaea.predict.pybioclip import (
    BIOCAP_MODEL_STR,
    BIOCLIP_MODEL_STR,
    BIOCLIP_V1_MODEL_STR,
    BIOCLIP_V2_MODEL_STR,
    BIOCLIP_V25_HUGE_MODEL_STR,
    DEFAULT_BATCH_SIZE,
    HF_DATAFILE_REPO_TYPE,
    TOL10M_HF_DATAFILE_REPO,
    TOL200M_HF_DATAFILE_REPO,
    TOL_MODELS,
    get_rank_labels,
)
from linnaea.taxonomy.ranks import Rank

__all__ = [
    "BIOCAP_MODEL_STR",
    "BIOCLIP_MODEL_STR",
    "BIOCLIP_V1_MODEL_STR",
    "BIOCLIP_V2_MODEL_STR",
    "BIOCLIP_V25_HUGE_MODEL_STR",
    "DEFAULT_BATCH_SIZE",
    "HF_DATAFILE_REPO_TYPE",
    "TOL10M_HF_DATAFILE_REPO",
    "TOL200M_HF_DATAFILE_REPO",
    "TOL_MODELS",
    "Rank",
    "get_rank_labels",
]
