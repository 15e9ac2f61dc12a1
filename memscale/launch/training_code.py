"""Which code this process trains with, and which runs of a sweep were trained with another.

The digest is taken when this module is imported, with the code that it describes: what is edited later does not change
what a process runs. The analysis, which only reads results, is no part of it.
"""

from __future__ import annotations

from memscale.launch.code_snapshot import digest_of_code
from memscale.records.provenance import CODE

TRAINING_CODE = digest_of_code(CODE, ("memscale",))
