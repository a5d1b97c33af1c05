"""Project settings, read by Kedro at start-up."""

import warnings

from temshift.catalog.study_catalog import StudyCatalog
from temshift.context import OrderedConfigLoader, ProjectContext
from temshift.hooks import ProjectHooks

# datasets are named after the namespace of their split or network, which is what the dot is for
warnings.filterwarnings("ignore", message="One or more dataset names contain '.' characters")

HOOKS = (ProjectHooks(),)
CONTEXT_CLASS = ProjectContext
CONFIG_LOADER_CLASS = OrderedConfigLoader
DATA_CATALOG_CLASS = StudyCatalog
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    "config_patterns": {"cluster": ["cluster.yml"]},
    # an environment changes single parameters without repeating their siblings
    "merge_strategy": {"parameters": "soft", "globals": "soft"},
}
