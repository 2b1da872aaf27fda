"""Imports run one way, from the numerics up to the classifier."""

import ast
from pathlib import Path

import pytest

import rs4a

ROOT = Path(rs4a.__file__).parent

# Every module may import what stands before it, and its own package.
LAYERS = [
    "exceptions", "utils", "radii", "noises", "box", "bounds", "stopping", "streams",
    "inference", "net_parts", "fingerprint", "nets", "batch_trial", "sampling",
    "sequential", "progress",
    "vote_plans", "vote_store", "packing", "workers", "run_report", "ballot", "batch_sizes",
    "soft_votes", "attacks", "guarantee", "certification_log", "bound_record",
    "certification", "objectives",
    "resume", "kept_training", "weighted_loss", "training", "plain_classifiers",
    "classifier", "persistence",
]  # fmt: skip
LEAVES = {
    "callbacks": {
        "resume",
        "vote_plans",
        "bounds",
        "certification",
        "exceptions",
        "metrics",
        "nets",
        "noises",
        "sampling",
        "streams",
        "utils",
    },
    "datasets": set(),
    "networks": {"utils"},
    "recipes": {"utils"},
    "metrics": {
        "bound_record",
        "bounds",
        "certification",
        "certification_log",
        "exceptions",
        "guarantee",
        "nets",
        "noises",
        "radii",
        "utils",
    },
    "testing": {"exceptions", "radii", "noises"},
}  # fmt: skip


def allowed(layer):
    if layer in LEAVES:
        return LEAVES[layer]
    before = set(LAYERS[: LAYERS.index(layer)])
    if layer == "classifier":  # whose methods save and load call what stands above it
        before.add("persistence")
    if layer == "certification":  # whose summary the metrics write
        before.add("metrics")
    return before | {"networks"} if layer in {"nets", "persistence"} else before


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "rs4a":
            yield from (["rs4a", alias.name] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.split(".")


MODULES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    layer = path.relative_to(ROOT).parts[0].removesuffix(".py")
    used = {parts[1] for parts in imports(path) if parts[0] == "rs4a" and len(parts) > 1}
    assert used - {layer} <= allowed(layer)


def test_every_module_has_a_layer():
    found = {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in MODULES}
    assert found == set(LAYERS) | set(LEAVES)
