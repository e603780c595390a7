"""What training refuses, in a tree. Every message names the thing and the way out.

TrainingRefused
├── DataRefused        the data cannot be learned from as it is
├── BaseRefused        the base model does not fit the method
├── ArtefactRefused    an artefact folder is not whole, not safe or not for this base
└── ExtraMissing       a library of the extra `training` is not installed
"""


class TrainingRefused(Exception):
    """Base of everything in this room that a user can mend."""


class DataRefused(TrainingRefused):
    pass


class BaseRefused(TrainingRefused):
    pass


class ArtefactRefused(TrainingRefused):
    pass


class ExtraMissing(TrainingRefused):
    pass
