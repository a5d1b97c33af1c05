"""Make docs/img/overview.svg, matrix.svg and overlay.png: ``python docs/pictures.py [DATA]``.

They show a finished study: README.md and docs/index.md begin with them. ``DATA`` is its data folder
(``data``), which is read and not written; its parameters are those of the present environment.
Everything between the tests of the networks and the drawings is worked out anew, as
``kedro run --pipelines generalization_reporting`` would.
"""

import io
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).parents[1]
IMAGES = Path(__file__).parent / "img"

#: Pictures are fetched with every page.
MOST_BYTES = 150_000

#: How many times larger than its patch a micrograph is shown, and the space between two, px.
SCALE, GAP = 2, 12


def content_of(data: Path) -> Any:
    """Return the content of the report of a finished study."""
    from kedro.framework.project import settings
    from kedro.framework.startup import bootstrap_project
    from kedro.io import DataCatalog, DatasetError

    from temshift.config.curation import CurationParameters
    from temshift.config.plan import StudyPlan
    from temshift.config.reporting import ReportingParameters
    from temshift.context import project_parameters
    from temshift.pipelines.generalization_reporting import nodes
    from temshift.reporting.content import ReportContent

    bootstrap_project(ROOT)
    parameters = project_parameters()
    loader = settings.CONFIG_LOADER_CLASS(str(ROOT / "conf"), **settings.CONFIG_LOADER_ARGS)
    catalog = DataCatalog.from_config(_moved(loader["catalog"], data))

    def load(name: str) -> Any:
        try:
            return catalog.get(name).load()
        except DatasetError as error:
            raise SystemExit(f"{data}: no finished study of these parameters ({error})") from error

    plan = StudyPlan.from_parameters(parameters)
    results = load("evaluation.model_output.results")
    splits = plan.used_splits
    blocks = [parameters[key] for key in ("splits", "studies", "networks")]
    curation = CurationParameters.model_validate(parameters["curation"])
    reporting = ReportingParameters.model_validate(parameters["reporting"])
    tables = nodes.compare(
        results,
        *blocks,
        curation,
        reporting,
        **{f"{split}.micrographs": load(f"{split}.micrographs") for split in splits},
    )
    named = dict(
        zip(("matrix", "gaps", "gains", "remedies", "confounds", "splits"), tables, strict=True)
    )
    explained = nodes.explain(
        named["gaps"],
        *blocks[:2],
        reporting,
        **{f"{split}.fingerprint": load(f"{split}.fingerprint") for split in splits},
    )
    named |= dict(zip(("fingerprints", "distances", "explanation"), explained, strict=True))
    tested = [n for n in plan.rows if n in set(results["network"])]
    return ReportContent.from_tables(
        parameters,
        results=results,
        histories=load("evaluation.model_output.histories"),
        examples={network: load(f"{network}.examples") for network in tested},
        **named,
    )


def drawings(content: Any, width_mm: float = 170) -> dict[str, bytes]:
    """Return the overview, and the matrix of the study with the largest loss."""
    from temshift.reporting.printed import printed_figures

    study = str(content.gaps.sort_values("gap", ascending=False)["study"].iloc[0])
    figures = printed_figures(content, [study], formats=["svg"])
    return {
        "overview.svg": _on_white(figures["overview"][f"_{width_mm:g}mm.svg"]),
        "matrix.svg": _on_white(figures[f"{study}_matrix"][f"_{width_mm:g}mm.svg"]),
    }


def overlay(content: Any) -> tuple[bytes, str]:
    """Return one micrograph twice, with what its own network and a foreign one make of it (PNG).

    It is the one with the largest loss of which examples of both are kept. The second value says
    in words what is shown.
    """
    from PIL import Image

    kept = content.examples
    gaps = content.gaps[content.gaps["protocol"] == content.protocol]
    for _, row in gaps.sort_values("gap", ascending=False, kind="stable").iterrows():
        split, network = str(row["test_split"]), str(row["network"])
        own = {e.micrograph_id: e for e in kept.get(split, []) if e.test_split == split}
        for guest in kept.get(network, []):
            if guest.test_split == split and guest.micrograph_id in own:
                pair = (own[guest.micrograph_id], guest)
                painted = [_painted(e) for e in pair]
                space = np.full((painted[0].shape[0], GAP, 3), 255, np.uint8)
                sheet = np.concatenate([painted[0], space, painted[1]], axis=1)
                buffer = io.BytesIO()
                picture = Image.fromarray(sheet).quantize(32, dither=Image.Dither.NONE)
                picture.save(buffer, "PNG", optimize=True)
                words = (
                    f"{guest.micrograph_id} of {split}: {split} Dice {pair[0].dice:.2f}, "
                    f"{network} Dice {guest.dice:.2f}"
                )
                return buffer.getvalue(), words
    raise SystemExit("no micrograph is an example of two networks of this study")


# --------------------------------------------------------------------------- inside
def _moved(block: Any, data: Path) -> Any:
    """Return a catalog whose paths lie below another data folder."""
    if isinstance(block, dict):
        return {key: _moved(value, data) for key, value in block.items()}
    if isinstance(block, list):
        return [_moved(value, data) for value in block]
    if isinstance(block, str) and block.startswith("data/"):
        return str(data / block.removeprefix("data/"))
    return block


def _on_white(source: bytes) -> bytes:
    """Return a drawing with a ground of its own: pages may be dark."""
    ET.register_namespace("", "http://www.w3.org/2000/svg")
    root = ET.fromstring(source)
    _, _, width, height = root.get("viewBox", "").split()
    ground = {"width": width, "height": height, "fill": "#ffffff"}
    root.insert(0, ET.Element("{http://www.w3.org/2000/svg}rect", ground))
    return ET.tostring(root, encoding="utf-8") + b"\n"


def _painted(example: Any) -> NDArray[np.uint8]:
    """Return a micrograph with the outlines of label and prediction and a scale bar."""
    from PIL import Image, ImageDraw, ImageFont
    from skimage.measure import find_contours

    from temshift.microscopy.pictures import LABEL
    from temshift.reporting.pictures import scale_bar

    height, width = example.image.shape
    large = Image.fromarray(example.image).resize((width * SCALE, height * SCALE))
    # fewer grey values: noise makes PNG large
    picture = large.point(lambda grey: grey // 16 * 17).convert("RGB")
    draw = ImageDraw.Draw(picture)
    for mask, colour in ((example.label, LABEL), (example.prediction, (86, 180, 233))):
        for line in find_contours((mask == 1).astype(float), 0.5):
            points = [(x * SCALE, y * SCALE) for y, x in line + 0.5]
            draw.line(points, fill=(0, 0, 0), width=4)
            draw.line(points, fill=colour, width=2)
    length, words = scale_bar(width, example.pixel_size_nm, example.shrunk)
    left, bottom = 14, height * SCALE - 16
    font = ImageFont.load_default(16)
    box = draw.textbbox((left, bottom - 22), words, font=font)
    bar = (left, bottom, left + length * SCALE, bottom + 5)
    draw.rectangle((left - 6, bottom - 26, max(bar[2], box[2]) + 6, bottom + 11), fill=(0, 0, 0))
    draw.rectangle(bar, fill=(255, 255, 255))
    draw.text((left, bottom - 22), words, fill=(255, 255, 255), font=font)
    return np.asarray(picture)


def main(data: Path) -> None:
    """Write the pictures of the study in a data folder."""
    content = content_of(data.resolve())
    picture, words = overlay(content)
    files = {**drawings(content), "overlay.png": picture}
    for name, source in files.items():
        if len(source) > MOST_BYTES:
            raise SystemExit(f"{name} has {len(source)} bytes, more than {MOST_BYTES}")
    for name, source in files.items():
        (IMAGES / name).write_bytes(source)
    sys.stdout.write(f"overlay.png: {words}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "data")
