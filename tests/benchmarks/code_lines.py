"""Code lines of each room of a package: no docstrings, comments or blank lines.

Run with: python tests/benchmarks/code_lines.py [folder]
"""

import argparse
import ast
import io
import tokenize
from collections import Counter
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "rs4a"
#: Tokens that are no code.
LAYOUT = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
    tokenize.ENCODING, tokenize.ENDMARKER,
}  # fmt: skip
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def code_lines(source):
    """Numbers of the lines with code."""
    lines = {
        line
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type not in LAYOUT
        for line in range(token.start[0], token.end[0] + 1)
    }
    return lines - docstring_lines(source)


def docstring_lines(source):
    """Numbers of the lines with docstrings."""
    return {
        line
        for node in ast.walk(ast.parse(source))
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node) is not None
        for line in range(node.body[0].lineno, node.body[0].end_lineno + 1)
    }


def count_rooms(folder):
    """Code lines of each package and module in a folder."""
    counts = Counter()
    for path in sorted(folder.rglob("*.py")):
        counts[path.relative_to(folder).parts[0]] += len(code_lines(path.read_text()))
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=PACKAGE)
    counts = count_rooms(parser.parse_args().folder)
    for room, count in counts.most_common():
        print(f"{count:6}  {room}")
    print(f"{counts.total():6}  total")


if __name__ == "__main__":
    main()
