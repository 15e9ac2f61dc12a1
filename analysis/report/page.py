"""The report as an HTML page: the answer, then figures, gains, laws, fairness, tuning, runs, limits, how to rebuild it.

The page needs no other file: no script, no outside link. It shows the values of `Study` and computes none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from analysis import formatting
from analysis.figures.figure import Figure
from analysis.figures.style import svg
from analysis.report import ablation_tables, html_tables, tuning
from analysis.report.css import CSS
from analysis.report.headline import headline
from analysis.report.html import escape, figure, inline, listed, paragraph, section
from analysis.report.knowledge_section import knowledge_section
from analysis.report.limitations import limits
from analysis.report.statements import readings, rule
from analysis.sweep.matching import held_equal
from analysis.sweep.study import Study


def page(
    study: Study,
    figures: Sequence[Figure],
    *,
    question: str,
    sweep: str,
    rebuild: Sequence[str],
    plan: Mapping[str, str],
    caveats: Sequence[str] = (),
) -> str:
    """The HTML of the page.

    Args:
        study: The results.
        figures: Shown in this order.
        question: The question of the sweep file.
        sweep: Its name.
        rebuild: Commands that build the page again.
        plan: Facts about the plan, by name.
        caveats: Limits of the study that the sweep's author has written.
    """
    answer = headline(study)
    parts = [
        _opening(study, question, sweep),
        _details(answer.details),
        _figures(figures),
        _table_sizes(study),
        _ablations(study),
        knowledge_section(study),
        _sizes(study),
        _gains(study),
        _laws(study),
        _fairness(study),
        _tuning(study, figures),
        _runs(study),
        _left_out(study),
        section("Limits", listed((*caveats, *limits(study)))),
        _rebuild(study, rebuild, plan),
    ]
    body = "\n".join(part for part in parts if part)
    return (
        "<!doctype html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n"
        '<meta name=viewport content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(sweep or 'sweep')}: {escape(question or 'results')}</title>\n<style>{CSS}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _opening(study: Study, question: str, sweep: str) -> str:
    results = study.results
    runs = results.compare
    families = ", ".join(_family(len(runs.series_of(name)), name) for name in runs.families)
    seeds = len(set(runs.seed.tolist()))
    facts = (
        f"{sweep or 'sweep'} · {formatting.counted(len(runs), 'compared run')} ({families};"
        f" {formatting.counted(len(runs.budgets()), 'budget')},"
        f" {formatting.counted(seeds, 'seed')}) · {formatting.counted(len(results.tune), 'tuning run')}"
    )
    if results.scale:
        facts += f" · scale {results.scale}"
    asked = paragraph(question, "question") if question else ""
    sentence = f'<h1 class="answer">{inline(headline(study).sentence)}</h1>'
    could = [paragraph(said, "resolution") for said in headline(study).resolution]
    read = paragraph(readings(study), "note") if study.looks else ""
    return "\n".join(part for part in (asked, sentence, *could, paragraph(facts, "facts"), read) if part)


def _family(num_series: int, name: str) -> str:
    return formatting.family(name) + (f" in {num_series} settings" if num_series > 1 else "")


def _details(details: Sequence[str]) -> str:
    return listed(details) if details else ""


def _figures(figures: Sequence[Figure]) -> str:
    shown = [figure(svg(one.figure), one.title, one.caption) for one in figures if one.stem != "tuning"]
    return '<div class="figures">\n' + "\n".join(shown) + "\n</div>" if shown else ""


def _table_sizes(study: Study) -> str:
    found = study.table_sizes
    if found is None:
        return ""
    if found.laws is None:
        law = f"No law against slots: {found.no_law}."
    else:
        noise = f" Noise: {found.laws.noise.source}." if found.laws.noise else " No interval: one seed a size."
        law = f"{found.laws.law.formula}, x = slots, least squares on the log of the loss: {found.laws.why}.{noise}"
    return section(
        "Loss, recall and knowledge against table size",
        ablation_tables.table_sizes(study),
        paragraph(
            f"Means over seeds with the {formatting.level(study.level)} interval of the mean; in bold"
            " the change from the smallest table to the"
            " largest. FLOPs a token grow with the table, for its keys are scored.",
            "note",
        ),
        ablation_tables.crossings(study),
        paragraph(
            "A crossing is the smallest table from which the curve of the means is better than the dense model; its"
            " 95 % interval runs from the first size at which the two cannot be told apart to the first at which the"
            " table is significantly better.",
            "note",
        ),
        paragraph(law),
        ablation_tables.slot_laws(study),
    )


def _ablations(study: Study) -> str:
    if not study.ablations:
        return ""
    total = sum(len(group.ablations) for group in study.ablations)
    chance = f" With {total} ablations about {formatting.fixed(0.05 * total, 1)} would seem to differ by chance alone."
    parts = [ablation_tables.ablations(study, group) for group in study.ablations]
    return section(
        "Ablations against the reference",
        *parts,
        paragraph(
            f"Differences of means over seeds, {formatting.level(study.level)} t intervals from the pooled noise"
            f" of the seeds, not corrected for the number of ablations.{chance} An ablation may differ in parameters"
            " and FLOPs too: see its row.",
            "note",
        ),
    )


def _sizes(study: Study) -> str:
    if study.isoflops is None:
        return ""
    return section(
        "Model sizes at equal training FLOPs",
        ablation_tables.isoflop(study),
        paragraph(
            "The optimum is the minimum of a curve through the sizes, with its 95 % interval (the engine of `analysis"
            " isoflop`). Beside it the size with the lowest mean loss of those that were tried: at an edge the best may"
            " lie outside; a size not told apart from it may be as good.",
            "note",
        ),
    )


def _gains(study: Study) -> str:
    if not study.comparisons:
        return ""
    first = study.comparison(*study.pairs[0], study.main.column)
    assert first is not None
    noise, paired = first.noise, first.paired_noise
    sizes = " Where model sizes share their FLOPs, each is compared with its own." if study.isoflops else ""
    said = f"{rule(study.main, study.level)}{sizes} Means over seeds, {formatting.level(study.level)} t intervals"
    unit = study.main.unit
    if noise is not None:
        said += (
            f" from the noise of the seeds: a run's {study.main.words} strays by"
            f" {formatting.significant(noise.std, 2)} {unit} ({formatting.counted(noise.degrees, 'degree of freedom')})"
        )
    if paired is not None:
        said += (
            f", of which all series of a seed share a part: without it by {formatting.significant(paired.std, 2)}"
            f" {unit} ({formatting.counted(paired.degrees, 'degree of freedom')}), and series are compared seed by seed"
        )
    parts = [paragraph(said + ". Intervals are not corrected for the number of comparisons.", "note")]
    pairs = [html_tables.gains(study, subject, baseline) for subject, baseline in study.pairs]
    words = held_equal(study.results.compare, study.pairs).words
    return section(f"Gains {words}", *parts, '<div class="pairs">', *pairs, "</div>")


def _laws(study: Study) -> str:
    if not study.curves:
        return section("Laws", *[paragraph(f"No law: {why}.") for why in dict.fromkeys(study.no_curves.values())])
    first = next(iter(study.curves.values()))
    noise = f" Noise: {first.noise.source}." if first.noise else " No interval: nothing tells the noise of a run."
    return section(
        "Laws, and gains in compute and in seconds",
        paragraph(f"{first.law.formula}, least squares on the log of the loss: {first.why}.{noise}"),
        html_tables.laws(study),
        html_tables.multipliers(study),
        paragraph(
            "A multiplier says by how much more compute (or time) the other family needs for the same loss, read where"
            " the worse of the two stands at the end of the common range; it is refused where that lies outside the"
            " measured range by more than 2x or where a slope is not significantly above zero. Seconds hold for the"
            " machine and the code the runs were trained with.",
            "note",
        ),
        *[paragraph(f"No law against {key}: {why}.") for key, why in study.no_curves.items()],
    )


def _fairness(study: Study) -> str:
    if not study.mismatches:
        return ""
    return section(
        "Was the comparison fair?",
        html_tables.mismatches(study),
        paragraph("The largest mismatch inside a budget: (largest - smallest) / smallest.", "note"),
    )


def _tuning(study: Study, figures: Sequence[Figure]) -> str:
    shown = [figure(svg(one.figure), one.title, one.caption) for one in figures if one.stem == "tuning"]
    grid = '<div class="figures">\n' + "\n".join(shown) + "\n</div>" if shown else ""
    return section("What was tuned", paragraph(tuning.said(study)), tuning.table_of_choices(study), grid)


def _runs(study: Study) -> str:
    return section(
        "Runs", html_tables.means(study), "<details><summary>Every run</summary>", html_tables.runs(study), "</details>"
    )


def _left_out(study: Study) -> str:
    if not study.results.exclusions:
        return section("What failed", paragraph("Nothing: every row of the table is a run that is done."))
    return section("What failed or diverged", html_tables.left_out(study))


def _rebuild(study: Study, rebuild: Sequence[str], plan: Mapping[str, str]) -> str:
    commands = "<pre>" + escape("\n".join(rebuild)) + "</pre>"
    facts = [f"{name}: {value}" for name, value in plan.items()]
    facts.append(f"results table: {study.results.path.name}, SHA-256 {study.results.sha256}")
    return section(
        "How to rebuild this", commands, listed(facts),
        paragraph("The same table gives the same report, byte for byte. Numbers for machines are in analysis.json;"
                  " the data behind each figure lie beside it as CSV.", "note"),
    )  # fmt: skip
