"""What the command line changes, in Hydra's grammar. Imports no framework, for run.py reads every argument with it."""

import re
import time
from pathlib import Path

BEGUN = time.time()  # run.py reads its arguments with this module, before Hydra makes a folder
CONF = Path(__file__).parent.parent.resolve() / "conf"


def as_override(text: str) -> str:
    """KEY=VALUE so that it may set what the YAML files leave out, as ++KEY=VALUE does; options and others as they are.

    >>> as_override("model.optimizer.momentum=0.8"), as_override("model/optimizer=sgd"), as_override("~callbacks.plots")
    ('++model.optimizer.momentum=0.8', 'model/optimizer=sgd', '~callbacks.plots')
    >>> as_override("model/optimizer@model.discriminator_optimizer=adam"), as_override("hydra.sweep.dir=here")
    ('model/optimizer@model.discriminator_optimizer=adam', 'hydra.sweep.dir=here')
    """
    key = re.match(r"(?!hydra\.)[A-Za-z_][\w.]*(?==)", text)
    return text if key is None or Path(CONF, key[0]).is_dir() else f"++{text}"
