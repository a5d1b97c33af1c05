"""Typed parameters, a module a part: one pydantic model per block of ``conf/*/parameters_*.yml``.

Node arguments are annotated with these models, so that Kedro validates every block before the
first node runs; a misspelt key or an impossible value is an error that names the key. The models
also answer the questions from which the pipelines are built
(:class:`temshift.config.plan.StudyPlan`).

Nothing here is computed from data, and nothing heavy is imported. Nothing is imported in this
file either: what a node depends on is found module by module.
"""
