"""Couple artificial neurons of language models with functional brain networks."""

import tqdm.asyncio
import tqdm.auto

# Before other libraries take it: as widgets, their bars would stand at 0 % in executed
# notebooks.
tqdm.auto.tqdm = tqdm.asyncio.tqdm

__version__ = "0.1.0"
