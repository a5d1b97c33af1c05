"""``python -m temshift run ...``: the project's commands without the ``kedro`` script.

In the project's folder ``python -m temshift`` takes what ``kedro`` takes.
"""

from __future__ import annotations

from kedro.framework.cli.cli import main

if __name__ == "__main__":
    main()
