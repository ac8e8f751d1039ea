"""`OWN`: the names of the nets in models/, those that were added later, too."""

from slipform.models.registry import names
from slipform.models.spec import REGISTERED

OWN = [
    name
    for name in names()
    if name in REGISTERED and REGISTERED[name].build.__module__.startswith("slipform.models.")
]
