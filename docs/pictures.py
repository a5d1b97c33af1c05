"""Make docs/img/overview.svg, matrix.svg and overlay.png: ``python docs/pictures.py [DATA]``.

They show a finished study: README.md and docs/index.md begin with them. ``DATA`` is its data folder
(``data``), which is read and not written; its parameters are those of the present environment.
What the pages say of a picture is written with it, into the pages and into the picture itself, so
that a test sees whether they belong together.
"""

import io
import os
import re
import sys
import textwrap
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).parents[1]
IMAGES = Path(__file__).parent / "img"
PAGES = (ROOT / "README.md", ROOT / "docs" / "index.md")

#: Of the report, from which the pictures are drawn.
TABLES = (
    *("matrix", "gaps", "gains", "remedies", "transfer", "confounds"),
    *("splits", "fingerprints", "distances", "explanation"),
)

#: Pictures are fetched with every page.
MOST_BYTES = 150_000

#: Least side of a micrograph as it is shown, and the space between two, px.
SIDE, GAP = 512, 12


def content_of(data: Path) -> Any:
    """Return the content of the report of a finished study."""
    from kedro.framework.project import settings
    from kedro.framework.startup import bootstrap_project
    from kedro.io import DataCatalog, DatasetError

    from temshift.context import project_parameters, study_plan
    from temshift.reporting.content import ReportContent

    bootstrap_project(ROOT)
    loader = settings.CONFIG_LOADER_CLASS(
        str(ROOT / "conf"), env=os.environ.get("KEDRO_ENV"), **settings.CONFIG_LOADER_ARGS
    )
    catalog = DataCatalog.from_config(_moved(loader["catalog"], data))

    def load(name: str) -> Any:
        try:
            return catalog.get(name).load()
        except DatasetError as error:
            raise SystemExit(f"{data}: no finished study of these parameters ({error})") from error

    results = load("evaluation.model_output.results")
    tested = [n for n in study_plan().rows if n in set(results["network"])]
    return ReportContent.from_tables(
        project_parameters(),
        results=results,
        histories=load("evaluation.model_output.histories"),
        examples={network: load(f"{network}.examples") for network in tested},
        **{name: load(f"generalization_reporting.reporting.{name}") for name in TABLES},
    )


def drawings(content: Any, width_mm: float = 170) -> dict[str, bytes]:
    """Return the overview, and the matrix of the study with the largest loss.

    Each has words of its own (``desc``): what stands in its place for who does not see it.
    """
    from temshift.reporting import sentences
    from temshift.reporting.printed import printed_figures

    study = str(content.gaps.sort_values("gap", ascending=False)["study"].iloc[0])
    figures = printed_figures(content, [study], formats=["svg"])
    splits = content.plan.studies[study].splits
    sets = ", ".join(sentences.condition(content, study, split) for split in splits)
    trained = f"trained {sentences.study_phrase(content, study)} {sets}"
    words = {
        "overview": "Overview: for each study, the loss of Dice of every shift between image sets "
        "on one axis, with the verdicts robust, degrades and breaks",
        f"{study}_matrix": f"Matrix: Dice of networks {trained} and tested on each of these sets, "
        "coloured by the loss against the test set's own network",
    }
    return {
        f"{name.removeprefix(f'{study}_')}.svg": _on_white(
            figures[name][f"_{width_mm:g}mm.svg"], told
        )
        for name, told in words.items()
    }


def overlay(content: Any) -> bytes:
    """Return one micrograph twice, with what its own network and a foreign one make of it (PNG).

    The pair of networks is that with the largest loss, in a study that varies a condition, of which
    examples of the same micrograph are kept; of these the one is shown whose Dice is nearest to the
    foreign network's mean. The picture holds its caption (``Description``) and what stands in its
    place (``Alternative``).
    """
    from PIL import Image, PngImagePlugin

    from temshift.reporting import sentences

    shift, own, guest = _pair(content)
    painted = [_painted(example) for example in (own, guest)]
    space = np.full((painted[0].shape[0], GAP, 3), 255, np.uint8)
    sheet = np.concatenate([painted[0], space, painted[1]], axis=1)
    study = str(shift["study"])
    home, away = (
        f"trained {sentences.study_phrase(content, study)} "
        f"{sentences.condition(content, study, str(shift[name]))}"
        for name in ("test_split", "network")
    )
    kind = "simulated micrograph" if own.test_split in content.simulated else "micrograph"
    words = PngImagePlugin.PngInfo()
    words.add_itxt(
        "Description",
        f"The same part of a {kind}, segmented by the network {home} (left, Dice of the whole "
        f"micrograph {own.dice:.2f}) and by the one {away} (right, {guest.dice:.2f}); orange: "
        "label, blue: prediction.",
    )
    words.add_itxt(
        "Alternative",
        f"A part of a {kind} twice, with the outlines of its label and of a prediction: on the "
        f"left that of the network {home}, on the right that of the one {away}",
    )
    buffer = io.BytesIO()
    picture = Image.fromarray(sheet).quantize(32, dither=Image.Dither.NONE)
    picture.save(buffer, "PNG", optimize=True, pnginfo=words)
    return buffer.getvalue()


def words_of(name: str, source: bytes) -> tuple[str, str]:
    """Return what a picture says of itself: the words in its place, and its caption or ``""``."""
    from PIL import Image

    if name.endswith(".svg"):
        return ET.fromstring(source).findtext("{http://www.w3.org/2000/svg}desc", ""), ""
    held = Image.open(io.BytesIO(source)).info
    return held.get("Alternative", ""), held.get("Description", "")


def with_words(page: str, files: Mapping[str, bytes]) -> str:
    """Return a page with the words of its pictures in place of those that it had."""
    for name, source in files.items():
        alternative, caption = words_of(name, source)
        picture = re.compile(r"!\[[^\]]*\]\((\S*" + re.escape(name) + r")\)")
        page = picture.sub(lambda m, a=alternative: f"![{a}]({m[1]})", page)
        if caption:
            filled = textwrap.fill(caption, 110, break_on_hyphens=False)
            page = re.sub(r"The same .*?blue:\s+prediction\.", filled, page, flags=re.S)
    return page


# --------------------------------------------------------------------------- inside
def _pair(content: Any) -> tuple[Any, Any, Any]:
    """Return a shift (row of the gaps) and the example of one micrograph by both networks."""
    studies = content.plan.studies
    named = [s for s in studies if studies[s].varies in content.plan.columns]  # in plain words
    gaps = content.gaps[content.gaps["study"].isin(named)]
    gaps = gaps[gaps["protocol"] == content.protocol]
    for _, shift in gaps.sort_values("gap", ascending=False, kind="stable").iterrows():
        split, network = str(shift["test_split"]), str(shift["network"])
        own, guests = (
            {e.micrograph_id: e for e in content.examples.get(n, []) if e.test_split == split}
            for n in (split, network)
        )
        both = [(own[name], guests[name]) for name in own if name in guests]
        if both:
            return shift, *min(both, key=lambda pair: abs(pair[1].dice - shift["dice"]))
    raise SystemExit("no micrograph is an example of two networks of this study")


def _moved(block: Any, data: Path) -> Any:
    """Return a catalog whose paths lie below another data folder."""
    if isinstance(block, dict):
        return {key: _moved(value, data) for key, value in block.items()}
    if isinstance(block, list):
        return [_moved(value, data) for value in block]
    if isinstance(block, str) and block.startswith("data/"):
        return str(data / block.removeprefix("data/"))
    return block


def _on_white(source: bytes, words: str) -> bytes:
    """Return a drawing with a ground of its own, as pages may be dark, and with words."""
    ET.register_namespace("", "http://www.w3.org/2000/svg")
    root = ET.fromstring(source)
    _, _, width, height = root.get("viewBox", "").split()
    ground = {"width": width, "height": height, "fill": "#ffffff"}
    root.insert(0, ET.Element("{http://www.w3.org/2000/svg}rect", ground))
    root.append(ET.Element("{http://www.w3.org/2000/svg}desc"))
    root[-1].text = words
    return ET.tostring(root, encoding="utf-8") + b"\n"


def _painted(example: Any) -> NDArray[np.uint8]:
    """Return a micrograph with the outlines of label and prediction and a scale bar."""
    from PIL import Image, ImageDraw, ImageFont
    from skimage.measure import find_contours

    from temshift.microscopy.pictures import LABEL
    from temshift.reporting.pictures import scale_bar

    height, width = example.image.shape
    scale = max(1, SIDE // width)
    large = Image.fromarray(example.image).resize((width * scale, height * scale))
    # fewer grey values: noise makes PNG large
    picture = large.point(lambda grey: grey // 16 * 17).convert("RGB")
    draw = ImageDraw.Draw(picture)
    for mask, colour in ((example.label, LABEL), (example.prediction, (86, 180, 233))):
        for line in find_contours((mask == 1).astype(float), 0.5):
            points = [(x * scale, y * scale) for y, x in line + 0.5]
            draw.line(points, fill=(0, 0, 0), width=4)
            draw.line(points, fill=colour, width=2)
    length, words = scale_bar(width, example.pixel_size_nm, example.shrunk)
    left, bottom = 14, height * scale - 16
    font = ImageFont.load_default(16)
    box = draw.textbbox((left, bottom - 22), words, font=font)
    bar = (left, bottom, left + length * scale, bottom + 5)
    draw.rectangle((left - 6, bottom - 26, max(bar[2], box[2]) + 6, bottom + 11), fill=(0, 0, 0))
    draw.rectangle(bar, fill=(255, 255, 255))
    draw.text((left, bottom - 22), words, fill=(255, 255, 255), font=font)
    return np.asarray(picture)


def main(data: Path) -> None:
    """Write the pictures of the study in a data folder."""
    content = content_of(data.resolve())
    files = {**drawings(content), "overlay.png": overlay(content)}
    for name, source in files.items():
        if len(source) > MOST_BYTES:
            raise SystemExit(f"{name} has {len(source)} bytes, more than {MOST_BYTES}")
    for name, source in files.items():
        (IMAGES / name).write_bytes(source)
    for page in PAGES:
        page.write_text(with_words(page.read_text(encoding="utf-8"), files), encoding="utf-8")
    sys.stdout.write(f"{words_of('overlay.png', files['overlay.png'])[1]}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "data")
