#!/usr/bin/env python3
"""Markdown tables of what measure.py measured. Standard library only.

report.py RESULT.json [...]

One table per file: ratios between runs on a power-limited card mean nothing, so files are never
mixed. A ratio is taken in every round by itself; shown is the median, with the extremes.
"""
import json
import statistics
import sys

FLOOR_C = ("floor", "all")
FLOOR_D = ("floor", "D: gemm + fp8 attention")


def sustained_steps(runs, warm_ms):
    """Times of the steps that begin after `warm_ms` of their run, for a card that clocks down as it
    warms up; of a run that is shorter than twice that, the second half."""
    steps = []
    for run in runs:
        passed, first = 0.0, 0
        while first < len(run) // 2 and passed < warm_ms:
            passed += run[first]
            first += 1
        steps += run[first:]
    return steps


def by_row(records, variant):
    """{(kind, part): {round: record}} in the order of the first appearance."""
    rows = {}
    for record in records:
        if record["variant"] == variant and "ms" in record:
            rows.setdefault((record["kind"], record["part"]), {})[record.get("round", 0)] = record
    return rows


def with_floor_d(rows, fp8_attention_ms):
    """Behind the floor's products a row of those with a step's isolated FP8 attentions: arithmetic,
    not a measured run."""
    more = {}
    for key, row in rows.items():
        more[key] = row
        if key == ("floor", "gemm"):
            more[FLOOR_D] = {
                number: {"ms": record["ms"] + fp8_attention_ms}
                for number, record in row.items()
            }
    return more


def ratios(row, base):
    """(median, least, most) of row over base in the rounds that have both; None without any."""
    values = [row[number]["ms"] / base[number]["ms"] for number in row if number in base]
    return (statistics.median(values), min(values), max(values)) if values else None


def format_ratio(ratio):
    if ratio is None:
        return ""
    middle, least, most = ratio
    if f"{least:.3f}" == f"{most:.3f}":
        return f"{middle:.3f}"
    return f"{middle:.3f} ({least:.3f} .. {most:.3f})"


def median_of(row, get):
    """The median of what `get` finds in the rounds; None where it finds nothing."""
    values = [value for value in map(get, row.values()) if value is not None]
    return statistics.median(values) if values else None


def clock(name):
    return lambda record: (record.get("clocks") or {}).get(name)


def whole(value):
    return "" if value is None else f"{value:.0f}"


def variant_table(records, variant, fp8_attention_ms=None):
    rows = by_row(records, variant)
    if fp8_attention_ms:
        rows = with_floor_d(rows, fp8_attention_ms)
    floor = rows.get(FLOOR_C, {})
    floor_d = rows.get(FLOOR_D)
    peer = next((row for (kind, _), row in rows.items() if kind == "peer"), {})
    heads = ["", "ms", "over floor C", "over floor D", "peer over it", "SM MHz", "W", "peak GiB"]
    if floor_d is None:
        heads.remove("over floor D")
    lines = ["| " + " | ".join(heads).lstrip() + " |", "| --- " * len(heads) + "|"]
    for (kind, part), row in rows.items():
        name = {FLOOR_C: "floor C", ("peer", "compiled"): "diffusers, compiled"}.get(
            (kind, part), part if kind == "dither" else f"{kind}, {part}")
        step = median_of(row, lambda record: record["ms"])
        peak = median_of(row, lambda record: record.get("peak_memory_gib"))
        cells = [
            f"**{name}**" if kind == "dither" else name,
            f"{step:.2f}",
            format_ratio(ratios(row, floor)) if (kind, part) != FLOOR_C else "1",
            *([format_ratio(ratios(row, floor_d)) if kind == "dither" else ""] if floor_d else []),
            # Of a floor it would say how much slower the peer is than what nobody runs.
            format_ratio(ratios(peer, row)) if kind == "dither" else "",
            whole(median_of(row, clock("sm_mhz_median"))),
            whole(median_of(row, clock("power_w_median"))),
            "" if peak is None else f"{peak:.1f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def markdown(document):
    """One table per variant, after a line that says what was measured where."""
    facts = [str(document.get("device", "unknown device"))]
    for key, label in (("driver_version", "driver"), ("torch", "torch"), ("cudnn", "cuDNN"),
                       ("diffusers", "diffusers"), ("date", "")):
        if document.get(key):
            facts.append(f"{label} {document[key]}".strip())
    commit = next(filter(None, (r.get("commit_hash") for r in document["records"])), None)
    if commit:
        facts.append(f"dither {commit}")
    text = ", ".join(facts) + "\n"
    variants = list(dict.fromkeys(record["variant"] for record in document["records"]))
    for variant in variants:
        rounds = {record.get("round", 0) for record in document["records"]
                  if record["variant"] == variant}
        text += f"\n{variant}, medians of {len(rounds)}:\n\n"
        text += variant_table(document["records"], variant, document.get("fp8_attention_ms")) + "\n"
    failures = [record for record in document["records"] if "error" in record]
    for record in failures:
        text += f"\nfailed: {record['kind']}, {record['part']}, {record['variant']}: "
        text += record["error"].strip().splitlines()[-1] + "\n"
    if document.get("stopped"):
        text += f"\nstopped early: {document['stopped']}\n"
    return text


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    for path in sys.argv[1:]:
        with open(path) as file:
            print(f"{path}: {markdown(json.load(file))}")


if __name__ == "__main__":
    main()
