"""Names of version 0.1.0 that moved, which warn once and work until 0.3, or that ended."""

import sys
from pkgutil import resolve_name
from types import ModuleType
from typing import Any

from rs4a.utils.user_warnings import warn_user

#: By the old module and name: where the object is now, as `pkgutil.resolve_name` reads it.
_MOVED = {
    "rs4a.bound_record": {"BoundRecord": "rs4a.records:BoundRecord"},
    "rs4a.box": {
        "Box": "rs4a.records:Box",
        "as_box": "rs4a.records:as_box",
        "coordinate_reach": "rs4a.records:coordinate_reach",
        "input_free_reach": "rs4a.records:input_free_reach",
    },
    "rs4a.certification": {"Certification": "rs4a:Certification"},
    "rs4a.certification_log": {
        "CertificationLog": "rs4a.records:CertificationLog",
        "common_images": "rs4a.records:common_images",
    },
    "rs4a.datasets.plain_pickle": {},
    "rs4a.inference": {"Inference": "rs4a:Inference"},
    "rs4a.metrics": {"summarize": "rs4a:Certification.summary"},
    "rs4a.networks": {
        "load_checkpoint": "rs4a.persistence:load_checkpoint",
    },
    # Pickled records of 0.1.0 name these modules.
    "rs4a.noises.cross_polytope": {"Exp1": "rs4a.noises:Exp1"},
    "rs4a.noises.cubical": {
        "ExpInf": "rs4a.noises:ExpInf",
        "PowInf": "rs4a.noises:PowInf",
    },
    "rs4a.noises.spherical": {
        "Exp2": "rs4a.noises:Exp2",
        "Pow2": "rs4a.noises:Pow2",
        "UniformBall": "rs4a.noises:UniformBall",
    },
    "rs4a.persistence": {
        "classifier_from_checkpoint": "rs4a:SmoothedClassifier.from_checkpoint",
        "load_classifier": "rs4a:SmoothedClassifier.load",
        "make_noise": "rs4a.noises:make_noise",
        "read_results": "rs4a.records:read_results",
        "save_classifier": "rs4a:SmoothedClassifier.save",
        "write_results": "rs4a.records:write_results",
    },
    "rs4a.recipes": {},
    "rs4a.stopping": {"look_schedule": "rs4a.voting.stopping:look_schedule"},
}

_SAVE = (
    "SmoothedClassifier.save writes a classifier, and net.save_params(f_params=path, "
    "use_safetensors=True) of skorch a net alone. rs4a.persistence.load_checkpoint still "
    "reads the files of version 0.1.0."
)
_READ = "rs4a 0.1.0 wrote JSON: safetensors.safe_open(path, 'pt').metadata()['rs4a']."
_EXAMPLE = "examples/plot_{}.py shows the few lines that take its place."
#: By the old module and name: advice for users.
_ENDED = {
    ("rs4a.datasets.plain_pickle", "read_plain_pickle"): "Loaders read pickled data sets.",
    ("rs4a.networks", "save_checkpoint"): _SAVE,
    ("rs4a.networks", "read_checkpoint_metadata"): _READ,
    ("rs4a.recipes", "replace_last_layer"): _EXAMPLE.format("fine_tuning"),
    ("rs4a.recipes", "with_pseudo_labels"): _EXAMPLE.format("self_training"),
}

_WITH_FILE = {"rs4a.metrics", "rs4a.networks", "rs4a.persistence"}


def moved(module: str, name: str) -> Any:
    """Object that a module of 0.1.0 had, with a warning: `__getattr__` of that module.

    Parameters
    ----------
    module : str
        Dotted name of the module.

    name : str
        Name of the object.

    Returns
    -------
    thing : object
        The object, from its new place.

    Raises
    ------
    AttributeError
        If the module did not have the name, or the name has no successor.
    ImportError
        If the whole module has no successor.

    Warns
    -----
    DeprecationWarning
        At the first use of the name.
    """
    if (module, name) in _ENDED:
        # Python drops the message of an AttributeError in "from module import name".
        kind = AttributeError if module in _WITH_FILE else ImportError
        raise kind(f"{module}.{name} has ended. {_ENDED[module, name]}")
    place = _MOVED[module].get(name)
    if place is None:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    new = place.replace(":", ".")
    warn_user(
        f"{module}.{name} is now {new}. The old path ends with version 0.3.",
        DeprecationWarning,
    )
    thing = resolve_name(place)
    setattr(sys.modules[module], name, thing)  # the next use finds it, without a warning
    return thing


class _Moved(ModuleType):
    """A module that no longer has a file."""

    def __getattr__(self, name: str) -> Any:
        return moved(self.__name__, name)


def add_moved_modules() -> None:
    """Let imports find modules that no longer have a file."""
    for name in _MOVED.keys() - _WITH_FILE:
        sys.modules.setdefault(name, _Moved(name))
