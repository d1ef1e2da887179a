"""The files of an evaluation: result.json, tables of the pairs' scores, and report.html with reliability plots.

The report is one file without a script: tables and SVG. Whatever comes from data (paths, reasons, names) is escaped,
and the content security policy allows nothing but the page's own style, by hash.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from cluster.run_directory import write_atomic
from policies.errors import InputError
from policies.rewards.evaluation.judgements import JudgedPair
from policies.rewards.evaluation.reliability import Reliability
from policies.rewards.evaluation.results import PairMetrics
from policies.rewards.evaluation.stored_scores import PAIR_COLUMNS
from services.reliability_plot import reliability_plot
from services.report import asset, csp_hash
from services.reward_eval_result import Evaluation
from services.reward_eval_text import number, percent, tables

_LABELS = {1: "A", -1: "B", 0: "same", None: "invalid"}


def write_evaluation(evaluation: Evaluation, out: Path) -> Path:
    """Writes an evaluation's files into a folder, made if it is not there; returns the report's path.

    Raises:
        InputError: the folder cannot be written.
    """
    report = out / "report.html"
    try:
        write_atomic(out / "result.json", json.dumps(evaluation.json(), indent=1, allow_nan=False).encode() + b"\n")
        if evaluation.scored is not None:
            for dimension, pairs in evaluation.pairs.items():
                write_atomic(out / f"pairs-{_file_name(dimension)}.csv", _stored_scores(pairs))
        write_atomic(report, render(evaluation).encode())
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written: {error.strerror}") from error
    return report


def render(evaluation: Evaluation) -> str:
    """The page, of data that may hold anything."""
    style = f"{asset('assets/report.css')}\n{asset('assets/reward_report.css')}"
    title = f"Reward evaluation: {Path(evaluation.source).name}"
    policy = f"default-src 'none'; style-src '{csp_hash(style)}'; base-uri 'none'; form-action 'none'"
    body = "\n".join(_sections(evaluation))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<meta name="referrer" content="no-referrer">\n'
        f"<title>{escape(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n"
        f"<header><h1>{escape(title)}</h1>{_facts(evaluation)}</header>\n<main>\n{body}\n</main>\n<footer></footer>\n"
        "</body>\n</html>\n"
    )


def _sections(evaluation: Evaluation) -> Iterator[str]:
    yield "<h2>Agreement with people</h2>"
    yield from (f'<div class="card scroll" tabindex="0">{_table(table)}</div>' for table in tables(evaluation))
    if evaluation.config.bootstrap.draws:
        draws, seed = evaluation.config.bootstrap.draws, evaluation.config.bootstrap.seed
        yield (
            f'<p class="hint">In brackets: 95 % bootstrap intervals over prompts, {draws} draws, seed {seed}; with '
            "ties at the threshold shown.</p>"
        )
    if evaluation.notes:
        yield f'<ul class="note">{"".join(f"<li>{escape(note)}</li>" for note in evaluation.notes)}</ul>'
    plots = [
        (dimension, metrics.reliability)
        for dimension, several in evaluation.dimensions.items()
        for metrics in several
        if isinstance(metrics, PairMetrics)
    ]
    if plots:
        yield from _reliability(plots)
    if evaluation.scored and evaluation.scored.failures:
        failures = [["video", "why it has no score"], *map(list, evaluation.scored.failures.items())]
        yield f'<h2>Videos without scores</h2><div class="card scroll">{_table(failures)}</div>'


def _facts(evaluation: Evaluation) -> str:
    facts = [("Data", evaluation.source)]
    scored = evaluation.scored
    if scored is not None:
        facts = [("Reward model", scored.model), ("Revision", scored.revision[:16]), *facts]
        facts += [(name, str(value)) for name, value in scored.settings.items() if name != "model"]
        facts.append(("Videos", f"{scored.videos - scored.failed} of {scored.videos} scored"))
    items = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
    return f'<dl class="facts">{items}</dl>'


def _reliability(plots: Sequence[tuple[str, Reliability]]) -> Iterator[str]:
    yield (
        '<h2>Reliability</h2><p class="lead">Does a larger score difference mean a surer choice? Each point is about '
        "a tenth of the pairs, by |difference|. Across: confidence sigmoid(k |difference|), with k fitted to them. "
        "Up: how often people prefer the video with the higher score, with 95 % intervals. On the dashed line "
        "confidence is earned; below it, differences promise more than they keep.</p>"
    )
    yield '<div class="grid">'
    for dimension, found in plots:
        if found.calibration_error is None:
            yield (
                f'<figure class="card"><figcaption><h3>{escape(dimension)}</h3></figcaption>'
                '<p class="hint">No pair with a preference.</p></figure>'
            )
            continue
        yield (
            f'<figure class="card"><figcaption><h3>{escape(dimension)}</h3><span class="hint">calibration error '
            f"{found.calibration_error:.3f}, k = {found.slope:.3g}</span></figcaption>"
            f"{reliability_plot(found, dimension)}"
            f'<details><summary>Numbers</summary><div class="scroll">{_bins(found)}</div></details></figure>'
        )
    yield "</div>"


def _bins(found: Reliability) -> str:
    rows = [["|difference|", "preferred", "same", "confidence", "accuracy"]]
    for each in found.bins:
        rows.append(
            [
                f"{each.lowest:.3g} to {each.highest:.3g}",
                str(each.preferred),
                str(each.tied),
                number(each.confidence) if each.confidence is not None else "",
                percent(each.accuracy, each.interval) if each.accuracy is not None else "",
            ]
        )
    return _table(rows)


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = rows
    cells = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    lines = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in body)
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{lines}</tbody></table>"


def _stored_scores(pairs: Sequence[JudgedPair]) -> bytes:
    """The table that `--scores` takes."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(PAIR_COLUMNS)
    for pair in pairs:
        scores = ("" if score is None else repr(score) for score in (pair.score_A, pair.score_B))
        writer.writerow([pair.prompt_id, *scores, _LABELS[pair.label]])
    return text.getvalue().encode()


def _file_name(dimension: str) -> str:
    return re.sub(r"\W+", "-", dimension, flags=re.ASCII).strip("-")
