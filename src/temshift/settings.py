"""Project settings, read by Kedro at start-up."""

from temshift.context import ProjectContext
from temshift.hooks import ProjectHooks

HOOKS = (ProjectHooks(),)
CONTEXT_CLASS = ProjectContext
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    # an environment changes single parameters without repeating their siblings
    "merge_strategy": {"parameters": "soft", "globals": "soft"},
}
